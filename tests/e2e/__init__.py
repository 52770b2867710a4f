"""The program as its users drive it: real commands, real daemons, real TLS, on this machine's loopback."""
