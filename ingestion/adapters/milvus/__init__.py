"""Milvus, through pymilvus and its protocol."""
