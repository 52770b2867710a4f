"""The pages: a node's own console and the receiver's public site. Templates, static files, Indonesian and English."""
