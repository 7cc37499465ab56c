"""What an answer costs, in whole micro-units so that sums never drift."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Price:
    """Micro-units per 1,000 tokens, in each direction."""

    input_micros: int
    output_micros: int

    def cost_micros(self, input_tokens: int, output_tokens: int) -> int:
        """Rounded up, so that no answer that used tokens is free while tokens have a price."""
        thousandths = input_tokens * self.input_micros + output_tokens * self.output_micros
        return -(-thousandths // 1000)
