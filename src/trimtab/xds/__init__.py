"""xDS v3, sans-IO: bytes in, bytes out. No sockets, no clock.

``wire.proto`` is the schema, ``names`` says which cluster a name means, ``catalog`` holds what
there is and encodes it once, ``server_session`` is one client's stream, ``client_session`` the
subscriber's side. The protocol's rules are those of Envoy's "xDS REST and gRPC protocol" page and
of gRFC A27.
"""
