"""One file per resource; each holds a router and the functions that shape its answer."""
