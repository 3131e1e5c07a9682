"""msgspec's errors."""


class MsgspecError(Exception):
    pass


class DecodeError(MsgspecError):
    """No JSON."""


class ValidationError(DecodeError):
    """Not what the type asks for."""
