"""`relay demo`: the whole journey on one machine, with an example election and photographs made on the spot.

`election` holds the example register and makes up tallies, `pictures` makes up photographs of the result forms. Neither
knows nodes, stores or the network: values in, bytes out.
"""
