"""Webhooks: changes of documents, sent to the endpoints of tenants."""
