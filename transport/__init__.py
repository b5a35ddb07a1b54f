"""Where the outside comes in over HTTP and WebSocket: GraphQL, the explorer, downloads, health; no rule of the product."""
