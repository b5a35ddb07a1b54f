"""What a document may ask for, and that measuring it costs nothing whatever it holds."""

import time

import pytest
from graphql import get_introspection_query, parse

from errors import BadRequest, QueryTooComplex
from settings import Settings
from transport import limits
from transport.documents import DocumentRefused, Documents


@pytest.fixture
def documents(toy) -> Documents:
    return Documents(toy.schema, Settings())


def measured(toy, source: str, variables=None) -> limits.Measure:
    document = parse(source)
    return limits.measure(toy.schema._schema, document, document.definitions[0], variables)


async def refused(documents, source: str, variables=None, signed_in: bool = True) -> QueryTooComplex:
    with pytest.raises(QueryTooComplex) as error:
        await documents.prepare(source, None, variables, signed_in=signed_in)
    return error.value


def test_page_sizes_multiply_into_the_cost(toy):
    found = measured(toy, "{ items(first: 10) { name items(last: 5) { name } } }")

    assert found == limits.Measure(depth=3, cost=1 + 10 * (1 + 1 + 5 * 1), fields=4)


def test_a_page_without_a_size_counts_25_rows(toy):
    assert measured(toy, "{ items { name } }").cost == 1 + 25
    assert measured(toy, "query($n: Int) { items(first: $n) { name } }", {"n": None}).cost == 1 + 25


def test_page_sizes_are_read_from_variables_and_their_defaults(toy):
    query = "query($n: Int = 7) { items(first: $n) { name } }"

    assert measured(toy, query).cost == 1 + 7
    assert measured(toy, query, {"n": 3}).cost == 1 + 3


def test_fragments_aliases_and_directives_are_counted_where_they_are_spread(toy):
    source = "{ a: item { ...F } b: item { ...F @skip(if: false) } } fragment F on Item @x { n: name @include(if: true) ... @y { name } }"

    found = measured(toy, source)

    assert (found.fields, found.aliases, found.directives, found.depth) == (6, 4, 7, 2)


@pytest.mark.parametrize("size", [0, -1, 101, 10**30])
@pytest.mark.parametrize("name", ["first", "last"])
async def test_a_page_size_outside_1_to_100_is_a_bad_request(documents, name, size):
    with pytest.raises(BadRequest) as literal:
        await documents.prepare(f"{{ items({name}: {size}) {{ name }} }}", None, None, signed_in=True)
    with pytest.raises(BadRequest):
        await documents.prepare(f"query($n: Int) {{ items({name}: $n) {{ name }} }}", None, {"n": size}, signed_in=True)

    assert literal.value.path == (name,)


@pytest.mark.parametrize("levels", [25, 90])
async def test_doubling_fragments_are_refused_at_once(documents, levels):
    fragments = "".join(f" fragment F{n} on Item {{ ...F{n + 1} ...F{n + 1} }}" for n in range(levels))
    source = "{ item { ...F0 } }" + fragments + f" fragment F{levels} on Item {{ name }}"
    started = time.thread_time()

    error = await refused(documents, source, signed_in=False)

    assert time.thread_time() - started < 2.5  # doubled 25 times it would be minutes
    assert error.limit == Settings().query_fields_max
    assert error.found == min(2**levels + 1, 2**53 - 1)


async def test_a_fragment_that_spreads_itself_is_refused_by_validation(documents):
    with pytest.raises(DocumentRefused):
        await documents.prepare("{ item { ...F } } fragment F on Item { ...F }", None, None, signed_in=True)


@pytest.mark.parametrize(("signed_in", "tokens_max"), [(False, 1000), (True, 2000)])
async def test_tokens_are_bounded_more_tightly_for_strangers(documents, signed_in, tokens_max):
    await documents.prepare("{ echo(value: [" + "1 " * (tokens_max - 9) + "]) }", None, None, signed_in=signed_in)

    error = await refused(documents, "{" + "hello " * tokens_max + "}", signed_in=signed_in)

    assert (error.found, error.limit) == (tokens_max + 1, tokens_max)


async def test_a_document_known_from_a_signed_in_viewer_is_still_too_long_for_a_stranger(documents):
    source = "{ echo(value: [" + "1 " * 1500 + "]) }"
    await documents.prepare(source, None, None, signed_in=True)

    assert (await refused(documents, source, signed_in=False)).limit == 1000


async def test_a_source_above_64_kib_is_refused(documents):
    error = await refused(documents, "{ hello }" + " " * 65536)

    assert (error.found, error.limit) == (65545, 65536)


async def test_depth_aliases_directives_and_cost_are_bounded(documents):
    deep = "{ item {" + " self {" * 15 + " name" + "}" * 17
    aliases = "{" + " ".join(f"a{n}: hello" for n in range(101)) + "}"
    directives = "{ hello" + " @skip(if: false)" * 51 + "}"
    costly = "{ items(first: 100) { items(first: 100) { name items(first: 2) { name } } } }"

    found = [(await refused(documents, source)) for source in (deep, aliases, directives, costly)]

    assert [(error.found, error.limit) for error in found] == [(17, 16), (101, 100), (51, 50), (1 + 100 * (1 + 100 * 4), 20_000)]


@pytest.mark.parametrize("source", ["{" + "a{" * 900 + "a" + "}" * 901, "{ echo(value: " + "[" * 900 + "]" * 900 + ") }"])
async def test_nesting_that_would_break_the_parser_is_refused(documents, source):
    with pytest.raises((QueryTooComplex, DocumentRefused)):
        await documents.prepare(source, None, None, signed_in=True)


async def test_the_clients_introspection_query_passes(documents):
    prepared = await documents.prepare(get_introspection_query(), None, None, signed_in=False)

    assert prepared.cost < 1000


async def test_fuzzed_documents_are_measured_in_a_moment(documents, toy):
    wide = "{" + "items { ...A } " * 180 + "} fragment A on Item {" + "items { name } " * 150 + "}"
    document = parse(wide)
    started = time.thread_time()

    limits.measure(toy.schema._schema, document, document.definitions[0], {})

    assert time.thread_time() - started < 2.5
