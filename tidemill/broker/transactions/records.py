"""A transaction as a journal record."""

from tidemill.broker.groups.offsets import CommittedOffset
from tidemill.broker.storage.journal import Record
from tidemill.broker.transactions.transaction import Transaction, TransactionState


def transaction_record(transaction: Transaction) -> Record:
    """The whole state, so that the last record of a transactional id says everything."""
    return {
        "kind": "transaction",
        "id": transaction.transactional_id,
        "producer_id": transaction.producer_id,
        "epoch": transaction.epoch,
        "previous": transaction.previous,
        "timeout_ms": transaction.timeout_ms,
        "started_ms": transaction.started_ms,
        "updated_ms": transaction.updated_ms,
        "state": transaction.state,
        "partitions": sorted(transaction.partitions),
        "groups": sorted(transaction.groups),
        "offsets": [
            [group_id, topic, index, row.offset, row.leader_epoch, row.metadata, row.committed_ms]
            for group_id, rows in transaction.offsets.items()
            for (topic, index), row in rows.items()
        ],
    }


def restore_transaction(record: Record) -> Transaction:
    """The reverse of `transaction_record`."""
    offsets: dict[str, dict[tuple[str, int], CommittedOffset]] = {}
    for group_id, topic, index, *row in record["offsets"]:
        offsets.setdefault(group_id, {})[topic, index] = CommittedOffset(*row)
    return Transaction(
        transactional_id=record["id"],
        producer_id=record["producer_id"],
        epoch=record["epoch"],
        previous=None if record["previous"] is None else tuple(record["previous"]),
        timeout_ms=record["timeout_ms"],
        started_ms=record["started_ms"],
        updated_ms=record["updated_ms"],
        state=TransactionState(record["state"]),
        partitions=frozenset((topic, index) for topic, index in record["partitions"]),
        groups=frozenset(record["groups"]),
        offsets=offsets,
    )
