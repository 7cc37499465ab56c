"""Identity of callers and services, and what keeps personal data in."""
