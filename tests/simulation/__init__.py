"""Simulated elections: the real code of relay on virtual time, with every misfortune drawn from one seed.

One run is one election of about twenty nodes: `chance` draws what happens, `plan` who meets whom, `voyage` runs it and
`promises` looks at the end whether every promise was kept. Real are `sync`, `trust`, `log`, capture, contacts,
schedule, retention, witness, sequencing and publishing; simulated are the clock (`clockwork`), the disk (`disk`, with
the store in `store`), the air between nodes (`air`), and what people and the sea do. `python -m tests.simulation`
runs as many as one likes; what a seed did once it does always.
"""
