"""Which function handles which API, and which one says no to it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from kio.schema.errors import ErrorCode

from tidemill.broker.handlers import (
    cluster,
    configs,
    fetch,
    group_admin,
    group_offsets,
    inspection,
    membership,
    offsets_in_log,
    produce,
    producers,
    quorum,
    security,
    topic_admin,
    topic_pages,
    transactions,
)
from tidemill.broker.node import Node
from tidemill.broker.wire.encoding import Fields
from tidemill.broker.wire.requests import Request
from tidemill.broker.wire.versions import Api

Handle = Callable[[Node, Request], Awaitable[Fields | None]]
Refuse = Callable[[Request, ErrorCode], Fields | None]


@dataclass(frozen=True, slots=True)
class Route:
    """`handle` does the work; `refuse` makes an answer of this API that is all error."""

    handle: Handle
    refuse: Refuse


ROUTES: Final[dict[Api, Route]] = {
    Api.PRODUCE: Route(produce.produce, produce.refuse_produce),
    Api.FETCH: Route(fetch.fetch, fetch.refuse_fetch),
    Api.LIST_OFFSETS: Route(offsets_in_log.list_offsets, offsets_in_log.refuse_list_offsets),
    Api.METADATA: Route(cluster.metadata, cluster.refuse_metadata),
    Api.OFFSET_COMMIT: Route(group_offsets.offset_commit, group_offsets.refuse_offset_commit),
    Api.OFFSET_FETCH: Route(group_offsets.offset_fetch, group_offsets.refuse_offset_fetch),
    Api.FIND_COORDINATOR: Route(cluster.find_coordinator, cluster.refuse_find_coordinator),
    Api.JOIN_GROUP: Route(membership.join_group, membership.refuse_join_group),
    Api.HEARTBEAT: Route(membership.heartbeat, membership.refuse_plainly),
    Api.LEAVE_GROUP: Route(membership.leave_group, membership.refuse_plainly),
    Api.SYNC_GROUP: Route(membership.sync_group, membership.refuse_plainly),
    Api.DESCRIBE_GROUPS: Route(group_admin.describe_groups, group_admin.refuse_describe_groups),
    Api.LIST_GROUPS: Route(group_admin.list_groups, membership.refuse_plainly),
    Api.API_VERSIONS: Route(cluster.api_versions, cluster.refuse_api_versions),
    Api.CREATE_TOPICS: Route(topic_admin.create_topics, topic_admin.refuse_create_topics),
    Api.DELETE_TOPICS: Route(topic_admin.delete_topics, topic_admin.refuse_delete_topics),
    Api.DELETE_RECORDS: Route(offsets_in_log.delete_records, offsets_in_log.refuse_delete_records),
    Api.INIT_PRODUCER_ID: Route(producers.init_producer_id, producers.refuse_init_producer_id),
    Api.OFFSET_FOR_LEADER_EPOCH: Route(
        offsets_in_log.offset_for_leader_epoch, offsets_in_log.refuse_offset_for_leader_epoch
    ),
    Api.ADD_PARTITIONS_TO_TXN: Route(
        transactions.add_partitions_to_txn, transactions.refuse_add_partitions
    ),
    Api.ADD_OFFSETS_TO_TXN: Route(transactions.add_offsets_to_txn, membership.refuse_plainly),
    Api.END_TXN: Route(transactions.end_txn, membership.refuse_plainly),
    Api.TXN_OFFSET_COMMIT: Route(
        transactions.txn_offset_commit, group_offsets.refuse_offset_commit
    ),
    Api.DESCRIBE_ACLS: Route(security.describe_acls, membership.refuse_plainly),
    Api.DESCRIBE_CONFIGS: Route(configs.describe_configs, configs.refuse_describe_configs),
    Api.ALTER_CONFIGS: Route(configs.alter_configs, configs.refuse_alter_configs),
    Api.DESCRIBE_LOG_DIRS: Route(inspection.describe_log_dirs, membership.refuse_plainly),
    Api.CREATE_PARTITIONS: Route(
        topic_admin.create_partitions, topic_admin.refuse_create_partitions
    ),
    Api.DELETE_GROUPS: Route(group_admin.delete_groups, group_admin.refuse_delete_groups),
    Api.ELECT_LEADERS: Route(quorum.elect_leaders, membership.refuse_plainly),
    Api.INCREMENTAL_ALTER_CONFIGS: Route(
        configs.incremental_alter_configs, configs.refuse_alter_configs
    ),
    Api.LIST_PARTITION_REASSIGNMENTS: Route(
        quorum.list_partition_reassignments, membership.refuse_plainly
    ),
    Api.OFFSET_DELETE: Route(group_offsets.offset_delete, membership.refuse_plainly),
    Api.DESCRIBE_CLIENT_QUOTAS: Route(security.describe_client_quotas, membership.refuse_plainly),
    Api.DESCRIBE_USER_SCRAM_CREDENTIALS: Route(
        security.describe_user_scram_credentials, membership.refuse_plainly
    ),
    Api.DESCRIBE_QUORUM: Route(quorum.describe_quorum, membership.refuse_plainly),
    Api.DESCRIBE_CLUSTER: Route(cluster.describe_cluster, membership.refuse_plainly),
    Api.DESCRIBE_PRODUCERS: Route(inspection.describe_producers, inspection.refuse_producers),
    Api.DESCRIBE_TRANSACTIONS: Route(
        inspection.describe_transactions, inspection.refuse_transactions
    ),
    Api.LIST_TRANSACTIONS: Route(inspection.list_transactions, membership.refuse_plainly),
    Api.DESCRIBE_TOPIC_PARTITIONS: Route(
        topic_pages.describe_topic_partitions, topic_pages.refuse_topic_partitions
    ),
}
