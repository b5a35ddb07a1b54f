"""GraphQL over HTTP as its authors audit it: every MUST, SHOULD and MAY of npm's graphql-http, against a real server process."""

import asyncio
import json

from tests.clients import npm_command

AUDITS = 61  # of the pinned release; fewer means the package changed, not that we got better


async def test_every_audit_of_graphql_http_is_green(migrated_sqlite, start_server):
    command = npm_command("audits.mjs", f"{start_server(migrated_sqlite).url}/graphql", needs="graphql-http")

    auditing = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    printed, _ = await asyncio.wait_for(auditing.communicate(), 60)

    audits = [json.loads(line) for line in printed.splitlines()]
    assert [audit for audit in audits if audit["status"] != "ok"] == []
    assert len(audits) == AUDITS
    assert auditing.returncode == 0
