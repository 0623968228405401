"""Both doors of the client behind one interface, so that one contract suite runs over them."""
