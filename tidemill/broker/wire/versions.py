"""The APIs the broker speaks and the range of versions of each."""

from enum import IntEnum
from typing import Final


class Api(IntEnum):
    """Kafka API keys that have a handler."""

    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28
    DESCRIBE_ACLS = 29
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    DESCRIBE_LOG_DIRS = 35
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    ELECT_LEADERS = 43
    INCREMENTAL_ALTER_CONFIGS = 44
    LIST_PARTITION_REASSIGNMENTS = 46
    OFFSET_DELETE = 47
    DESCRIBE_CLIENT_QUOTAS = 48
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50
    DESCRIBE_QUORUM = 55
    DESCRIBE_CLUSTER = 60
    DESCRIBE_PRODUCERS = 61
    DESCRIBE_TRANSACTIONS = 65
    LIST_TRANSACTIONS = 66
    DESCRIBE_TOPIC_PARTITIONS = 75


# Ranges go as far as clients have use for: every client still speaks the versions from before the
# "flexible" ones of Kafka 2.4, which cost more to read and write. Topic ids are what Metadata,
# CreateTopics and DeleteTopics go further for; Fetch does without them.
VERSIONS: Final[dict[Api, tuple[int, int]]] = {
    Api.PRODUCE: (3, 8),
    Api.FETCH: (4, 11),
    Api.LIST_OFFSETS: (1, 10),
    Api.METADATA: (0, 13),
    Api.OFFSET_COMMIT: (2, 7),
    Api.OFFSET_FETCH: (1, 7),
    Api.FIND_COORDINATOR: (0, 2),
    Api.JOIN_GROUP: (0, 5),
    Api.HEARTBEAT: (0, 3),
    Api.LEAVE_GROUP: (0, 3),
    Api.SYNC_GROUP: (0, 3),
    Api.DESCRIBE_GROUPS: (0, 6),
    Api.LIST_GROUPS: (0, 4),
    Api.API_VERSIONS: (0, 3),
    Api.CREATE_TOPICS: (2, 7),
    Api.DELETE_TOPICS: (1, 6),
    Api.DELETE_RECORDS: (0, 1),
    Api.INIT_PRODUCER_ID: (0, 4),
    Api.OFFSET_FOR_LEADER_EPOCH: (2, 3),
    Api.ADD_PARTITIONS_TO_TXN: (0, 2),
    Api.ADD_OFFSETS_TO_TXN: (0, 2),
    Api.END_TXN: (0, 2),
    Api.TXN_OFFSET_COMMIT: (0, 3),
    Api.DESCRIBE_ACLS: (1, 3),
    Api.DESCRIBE_CONFIGS: (1, 4),
    Api.ALTER_CONFIGS: (0, 1),
    Api.DESCRIBE_LOG_DIRS: (1, 4),
    Api.CREATE_PARTITIONS: (0, 1),
    Api.DELETE_GROUPS: (0, 1),
    Api.ELECT_LEADERS: (0, 2),
    Api.INCREMENTAL_ALTER_CONFIGS: (0, 0),
    Api.LIST_PARTITION_REASSIGNMENTS: (0, 0),
    Api.OFFSET_DELETE: (0, 0),
    Api.DESCRIBE_CLIENT_QUOTAS: (0, 1),
    Api.DESCRIBE_USER_SCRAM_CREDENTIALS: (0, 0),
    Api.DESCRIBE_QUORUM: (0, 2),
    Api.DESCRIBE_CLUSTER: (0, 0),
    Api.DESCRIBE_PRODUCERS: (0, 0),
    Api.DESCRIBE_TRANSACTIONS: (0, 0),
    Api.LIST_TRANSACTIONS: (0, 1),
    Api.DESCRIBE_TOPIC_PARTITIONS: (0, 0),
}

# Apache Kafka 4 lists Produce from 0 as well, and refuses 0 to 2 when sent: librdkafka
# before 2.8 takes a missing Produce 0 for "no support for compression".
ADVERTISED_FROM: Final[dict[Api, int]] = {Api.PRODUCE: 0}


def is_spoken(api_key: int, version: int) -> bool:
    """Whether a request of this API key and version can be decoded and handled."""
    if api_key not in Api.__members__.values():
        return False
    low, high = VERSIONS[Api(api_key)]
    return low <= version <= high


def advertised() -> list[dict[str, int]]:
    """The rows of an ApiVersions answer."""
    return [
        {
            "api_key": api.value,
            "min_version": ADVERTISED_FROM.get(api, low),
            "max_version": high,
        }
        for api, (low, high) in VERSIONS.items()
    ]
