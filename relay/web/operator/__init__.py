"""The operator's page: from a paired phone's pictures and numbers to a signed package, and its way."""
