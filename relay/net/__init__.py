"""The network: interfaces, discovery, sockets, TLS, and the sync protocol over HTTP.

Carries what `relay.sync` says; knows nothing of stores, and decides nothing about trust but to ask admission.
"""
