"""Commands that wire several packages together."""
