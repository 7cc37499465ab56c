"""One function per API: takes a decoded request, returns the fields of the answer."""
