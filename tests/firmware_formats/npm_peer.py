"""The vendor's own reader and generator (npm, Apache-2.0), run through node: an opinion that is not ours."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

_PACKAGE = "binary-version-reader"

_READ = """
const { HalModuleParser } = require('binary-version-reader');
(async () => {
  const said = [];
  for (const text of JSON.parse(require('fs').readFileSync(0))) {
    try {
      const f = await new HalModuleParser().parseBuffer({ fileBuffer: Buffer.from(text, 'base64') });
      const p = f.prefixInfo, s = f.suffixInfo;
      said.push({ crcOk: f.crc.ok, offset: p.prefixOffset, platform: p.platformID, function: p.moduleFunction, flags: p.moduleFlags,
        start: parseInt(p.moduleStartAddy, 16), end: parseInt(p.moduleEndAddy, 16), suffix: s.suffixSize, sha256: s.fwUniqueId,
        product: s.productId, version: s.productVersion, extensions: (p.extensions || []).concat(s.extensions || []).map(e => e.type) });
    } catch (error) { said.push({ error: String(error) }); }
  }
  console.log(JSON.stringify(said));
})();
"""

_MAKE = """
const bvr = require('binary-version-reader');
(async () => {
  const made = [];
  for (const { compress, assets, bundle, ...options } of JSON.parse(require('fs').readFileSync(0))) {
    let binary = bvr.firmwareTestHelper.createFirmwareBinary(options);
    if (assets) binary = await bvr.updateModuleAssetDependencies(binary, [{ data: Buffer.from(assets), name: 'picture.png' }]);
    if (compress) binary = await bvr.compressModule(binary);
    if (bundle) {
      const files = Object.entries(bundle).map(([name, text]) => ({ name, data: Buffer.from(text) }));
      binary = await bvr.createApplicationAndAssetBundle(binary, files);
    }
    made.push(binary.toString('base64'));
  }
  console.log(JSON.stringify(made));
})();
"""


def read(*binaries: bytes) -> list[dict[str, Any]]:
    """What the vendor's reader says of each; {"error": …} where it refuses."""
    return _node(_READ, [base64.b64encode(b).decode() for b in binaries])


def make(*options: dict[str, Any]) -> list[bytes]:
    """Modules of the vendor's generator: productId, productVersion, platformId, addVectorTable …, and our `compress`, `assets` and `bundle`."""
    return [base64.b64decode(text) for text in _node(_MAKE, list(options))]


def _node(script: str, given: list[Any]) -> list[Any]:
    node, modules = shutil.which("node"), _modules()
    if node is None or modules is None:
        pytest.skip(f"NOT COMPARED with the vendor's reader: node or npm's {_PACKAGE} is missing (FLOTILLA_NPM, tests/npm).")
    run = subprocess.run(
        [node, "-e", script],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": os.environ["PATH"], "NODE_PATH": str(modules)},
    )
    answer: list[Any] = json.loads(run.stdout)
    return answer


def _modules() -> Path | None:
    named = Path(os.environ["FLOTILLA_NPM"]) if "FLOTILLA_NPM" in os.environ else Path(__file__).parents[1] / "npm"
    for folder in (named, named / "node_modules"):
        if (folder / _PACKAGE).is_dir():
            return folder
    return None


_RESTAMP = """
const { HalModuleParser, updateModuleSuffix, updateModuleSha256, updateModuleCrc32 } = require('binary-version-reader');
(async () => {
  const stamped = [];
  for (const { binary, productId, productVersion } of JSON.parse(require('fs').readFileSync(0))) {
    const data = Buffer.from(binary, 'base64');
    const { suffixInfo } = await new HalModuleParser().parseBuffer({ fileBuffer: data });
    updateModuleSuffix(data, { suffixSize: suffixInfo.suffixSize, productId, productVersion });
    updateModuleSha256(data);
    updateModuleCrc32(data);
    stamped.push(data.toString('base64'));
  }
  console.log(JSON.stringify(stamped));
})();
"""


def restamped(binary: bytes, product_id: int, version: int) -> bytes:
    """A module with another product and version, its hash and checksum made right by the vendor's own code."""
    given = {"binary": base64.b64encode(binary).decode(), "productId": product_id, "productVersion": version}
    (text,) = _node(_RESTAMP, [given])
    return base64.b64decode(text)
