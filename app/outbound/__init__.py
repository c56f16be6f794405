"""Requests that the service makes of others: the only place from which it reaches out."""
