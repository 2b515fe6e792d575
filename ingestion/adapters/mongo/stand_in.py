"""A workaround for SecantusDB, the stand-in of the local stack. Setting: `PAGEMILL_MONGO_STAND_IN`.

For findAndModify SecantusDB reads the whole collection, also where the condition names an id: 172 ms with 10,000
documents. An update by id takes 7 ms and a read by id 2 ms. MongoDB uses its index of ids for each of them.
"""

from __future__ import annotations

from typing import Any

from ingestion.adapters.mongo.database import MongoCollection
from ingestion.adapters.mongo.fields import MongoRecord


async def update_then_read(
    collection: MongoCollection, condition: dict[str, Any], stage: dict[str, Any]
) -> MongoRecord | None:
    """As findAndModify, in two requests. None also if a claim or a delete followed at once."""
    result = await collection.update_one(condition, [stage])
    if not result.matched_count:
        return None
    same = {name: condition[name] for name in ("_id", "fence") if name in condition}
    record: MongoRecord | None = await collection.find_one(same)
    return record
