"""An Envoy at the edge: ``model`` says what it is to do, ``envoy`` writes it as Envoy's bootstrap.

``route_file`` is one way to a model. Another source of routes, such as the Gateway API, makes the
same values and needs nothing else.
"""
