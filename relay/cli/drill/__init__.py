"""`relay drill`: a practice election, in which everyone goes once through what election night asks of them.

A drill is an election of its own: its own root, so that no node of the real one takes anything of it (promise 1), and
an id that begins with `drill-`, which no real election may have and by which every page and command shows what it is.
`walk` takes one operator through it, `record` is what that leaves behind, `report` reads it all at the receiver.
"""
