"""The network: interfaces, discovery, sockets, TLS, and the sync protocol over HTTP.

Carries what `relay.sync` says; knows of stores only the values that it carries, and decides nothing about trust but to
ask admission.
"""
