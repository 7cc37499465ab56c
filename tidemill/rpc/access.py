"""Access rules of RPCs, read from the contracts."""

from google.protobuf import descriptor_pool

from tidemill.api.common.v1 import Access, access


def access_of(method: str) -> Access | None:
    """Rule of "/package.Service/Method"; None when the contract declares none."""
    service_name, _, method_name = method.lstrip("/").rpartition("/")
    try:
        service = descriptor_pool.Default().FindServiceByName(service_name)
        options = service.methods_by_name[method_name].GetOptions()
    except KeyError:
        return None
    return options.Extensions[access] if options.HasExtension(access) else None
