"""The releases of each tenant in memory, so that a question needs no look into the rows."""

from collections import OrderedDict
from dataclasses import dataclass

from services.inference.adapters.store import load_releases
from services.inference.domain.releases import Releases
from tidemill.clock import Clock
from tidemill.db import Database

SHARED_SECONDS = 0.0
"""How long rows on a server are believed: other replicas change them too, and all of them go over
to a release at the same moment."""
OWN_SECONDS = 30.0
"""The same for a file: whoever changes its rows says so, and what was not said is found out."""
MOST_TENANTS = 10_000


@dataclass(frozen=True)
class _Page:
    releases: Releases
    read_at: float


class ReleaseBook:
    """What the rows say, as of the last change that this process made, or a moment ago."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._seconds = OWN_SECONDS if database.is_file else SHARED_SECONDS
        self._pages: OrderedDict[str, _Page] = OrderedDict()
        self._changes = 0

    async def of(self, tenant_id: str) -> Releases:
        """Every release of the tenant; the base release alone when there is no news of any."""
        page, now = self._pages.get(tenant_id), self._clock.monotonic()
        if page is not None and now - page.read_at < self._seconds:
            return page.releases
        changes = self._changes
        releases = await load_releases(self._database, tenant_id)
        if changes == self._changes:  # else they may be older than the change
            self._keep(tenant_id, _Page(releases, now))
        return releases

    def forget(self, tenant_id: str) -> None:
        """The tenant's rows have changed."""
        self._changes += 1
        self._pages.pop(tenant_id, None)

    def _keep(self, tenant_id: str, page: _Page) -> None:
        self._pages[tenant_id] = page
        self._pages.move_to_end(tenant_id)
        if len(self._pages) > MOST_TENANTS:
            self._pages.popitem(last=False)
