"""`relay simulate`: will this timetable bring everything in by the deadline?

`plan` reads the plan, `chance` draws one night from it, `flow` plays the night, `forecast` plays many and counts,
`picture` draws the outcome. All but `command` are pure, and know nothing of nodes, stores or sockets: the model stands
beside the program, so that the two can be held against each other (tests/netns/test_simulation.py).
docs/reference/plan.md tells the format and what the model leaves out.
"""
