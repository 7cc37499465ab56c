"""Settings that every process shares; each has a default that works on a bare machine."""

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from tidemill.names import FIRST_GRPC_PORT
from tidemill.names import SERVICES as SERVICES


class MeshSettings(BaseSettings):
    """Addresses and folders, read from TIDEMILL_* once at the start of a process."""

    model_config = SettingsConfigDict(env_prefix="TIDEMILL_", extra="ignore", frozen=True)

    home: Path = Path(".tidemill")
    """Folder of all local state."""
    host: str = "127.0.0.1"
    """Address that servers bind; anything but loopback needs TLS files."""
    port_base: int = 7700
    """First port; broker +0, Triton +1..+3, gRPC of the services +10.., metrics +30.."""
    kafka: str = ""
    """Bootstrap address of a Kafka cluster; empty means the embedded broker."""
    kafka_session_ms: int = 10_000
    """How long the partitions of a killed member wait before another takes them over; a broker
    takes no less than its `group.min.session.timeout.ms`, 6,000 as a rule."""
    flood_brake: bool = True
    """False lets a flood of bad events pass into the dead letters: for one start, once it is known
    that nothing can heal them."""
    triton: str = ""
    """gRPC address of a Triton server; empty means the one that `tidemill up` starts."""
    milvus: str = ""
    """Milvus address, or a file for milvus-lite; empty means a file under home."""
    db: str = ""
    """postgresql://user:password@host/database, where each service has a schema; "{service}" in it
    stands for its name. Empty means one SQLite file a service under home."""
    artifacts: str = ""
    """fsspec URL of the artifact store; empty means a folder under home."""
    service_addresses: str = ""
    """Overrides such as "retriever=10.0.0.3:7712,embedder=embedder:7711"."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_authority: Path | None = None
    dev: bool = True
    """Reflection on, and keys made at first start."""
    log_level: str = "INFO"

    def port(self, offset: int) -> int:
        return self.port_base + offset

    @property
    def kafka_address(self) -> str:
        return self.kafka or f"127.0.0.1:{self.port(0)}"

    @property
    def triton_address(self) -> str:
        return self.triton or f"127.0.0.1:{self.port(1)}"

    @property
    def milvus_address(self) -> str:
        return self.milvus or str(self.home / "retriever" / "milvus.db")

    @property
    def artifacts_url(self) -> str:
        return self.artifacts or str((self.home / "artifacts").resolve())

    def database_url(self, service: str) -> str:
        if self.db:
            return self.db.replace("{service}", service)
        return f"sqlite+aiosqlite:///{self.home / service / 'rows.db'}"

    def grpc_port(self, service: str) -> int:
        return self.port(FIRST_GRPC_PORT + SERVICES.index(service))

    def metrics_port(self, service: str) -> int:
        return self.port(30 + SERVICES.index(service))

    def address_of(self, service: str) -> str:
        """Where clients reach a service's gRPC server."""
        overrides = dict(pair.split("=", 1) for pair in self.service_addresses.split(",") if pair)
        return overrides.get(service, f"127.0.0.1:{self.grpc_port(service)}")
