"""Files with an operation: placed as the multipart request specification says, on disk, capped, and refused in any other shape."""

import json

import pytest

QUERY = "mutation($file: Upload!, $again: [Upload!]) { keep(file: $file, again: $again) }"
SIGNED_IN = {"graphql-preflight": "1", "authorization": "Bearer ann"}


@pytest.fixture
def upload(client):
    async def upload(operations: object, places: object, files: dict, headers: dict = SIGNED_IN):
        fields = {name: value for name, value in (("operations", operations), ("map", places)) if value is not None}
        data = {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}
        return await client.post("/graphql", data=data, files=files or {"x": (None, "y")}, headers=headers)

    return upload


async def test_a_file_arrives_whole_where_the_map_puts_it(upload):
    files = {"0": ("ids.txt", b"x" * 2_500_000), "1": ("more.txt", b"y")}
    variables = {"file": None, "again": [None]}

    response = await upload({"query": QUERY, "variables": variables}, {"0": ["variables.file"], "1": ["variables.again.0"]}, files)

    assert response.json() == {"data": {"keep": "2500000 ids.txt 1"}}


OPERATIONS = {"query": QUERY, "variables": {"file": None}}


@pytest.mark.parametrize(
    ("operations", "places"),
    [
        (None, {"0": ["variables.file"]}),
        (OPERATIONS, None),
        ("{", {"0": ["variables.file"]}),
        (OPERATIONS, "{"),
        ("null", {"0": ["variables.file"]}),
        ('"x"', {"0": ["variables.file"]}),
        ([OPERATIONS], {"0": ["0.variables.file"]}),
        (OPERATIONS, []),
        (OPERATIONS, "1"),
        (OPERATIONS, {"0": "variables.file"}),
        (OPERATIONS, {"0": []}),
        (OPERATIONS, {"0": [1]}),
        (OPERATIONS, {"0": [None]}),
        (OPERATIONS, {"0": [["variables", "file"]]}),
        (OPERATIONS, {"0": ["query"]}),
        (OPERATIONS, {"0": ["variables"]}),
        (OPERATIONS, {"0": ["variables.nothing"]}),
        (OPERATIONS, {"0": ["variables.file.deeper"]}),
        (OPERATIONS, {"0": ["variables.file", "variables.file"]}),
        (OPERATIONS, {"9": ["variables.file"]}),
        ({"query": QUERY, "variables": {"file": "taken"}}, {"0": ["variables.file"]}),
        ({"query": QUERY, "variables": {"again": [None]}}, {"0": ["variables.again.-1"]}),
        ({"query": QUERY, "variables": {"again": [None]}}, {"0": ["variables.again.99999999999999"]}),
        ({"query": QUERY, "variables": {"again": [None]}}, {"0": ["variables.again.x"]}),
        ({"query": QUERY, "variables": []}, {"0": ["variables.0"]}),
        ({"query": 1, "variables": {"file": None}}, {"0": ["variables.file"]}),
        ({"variables": {"file": None}}, {"0": ["variables.file"]}),
        ("[" * 100_000, {"0": ["variables.file"]}),
    ],
)
async def test_any_other_shape_of_operations_and_map_is_400(upload, operations, places):
    response = await upload(operations, places, {"0": ("a", b"x")})

    assert response.status_code == 400
    assert response.json()["errors"][0]["extensions"]["code"] == "BAD_REQUEST"


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"--\r\n"),
        ("multipart/form-data; boundary=x", b"no boundary here"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="operations"\r\n\r\n{'),
        ("multipart/form-data; boundary=x; charset=nothing", b""),
        ("multipart/form-data; boundary=" + "x" * 300, b"--"),
    ],
)
async def test_a_broken_multipart_body_is_400(client, content_type, body):
    response = await client.post("/graphql", content=body, headers=SIGNED_IN | {"content-type": content_type})

    assert response.status_code == 400


async def test_an_upload_above_the_cap_is_413(upload):
    response = await upload(OPERATIONS, {"0": ["variables.file"]}, {"0": ("a", b"x" * (3 << 20))})

    assert response.status_code == 413


async def test_a_stranger_uploads_no_more_than_a_json_request_holds(upload):
    response = await upload(OPERATIONS, {"0": ["variables.file"]}, {"0": ("a", b"x" * (1 << 20))}, {"graphql-preflight": "1"})

    assert response.status_code == 413
