"""What the doors count for /metrics; other rooms register their own counters with prometheus-client's registry the same way."""

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("flotilla_graphql_requests", "GraphQL requests over HTTP, by the status of their answer.", ["status"])
OPERATIONS = Counter("flotilla_graphql_operations", "Operations that ran, by door and kind.", ["door", "kind"])
COMPILED = Counter("flotilla_graphql_compiled_answers", "Queries answered by their plan; the others went through graphql-core.")
SECONDS = Histogram("flotilla_graphql_operation_seconds", "Time a query or mutation took, by kind.", ["kind"])
SOCKETS = Gauge("flotilla_graphql_sockets", "Open GraphQL sockets.")
STREAMS = Gauge("flotilla_graphql_streams", "Open streams of server-sent events.")
MALFORMED = Counter("flotilla_graphql_malformed_messages", "Socket messages that closed their socket with 4400.")
DEVICES = Gauge("flotilla_device_sockets", "Open device sockets, authenticated or not yet.")
TASKS = Gauge("flotilla_tasks", "Tasks of the process's event loop; a number that only grows is a leak.")

# Looking a label up costs as much as counting does.
requests = cache(REQUESTS.labels)
operations = cache(OPERATIONS.labels)
seconds = cache(SECONDS.labels)
