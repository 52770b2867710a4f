"""The node: its folder, its daemon, its contacts and uplink, what it keeps and what it frees.

Starts and stops everything below it; decides when to visit whom. How a visit goes is `relay.sync`'s.
"""
