#include "status.h"

const char *status_text(enum status status)
{
    switch (status) {
    case STATUS_OK: return "ok";
    case STATUS_NEED_MORE: return "need more";
    case STATUS_NOT_FOUND: return "not found";
    case STATUS_EXISTS: return "exists";
    case STATUS_INVALID: return "invalid";
    case STATUS_MALFORMED: return "malformed";
    case STATUS_PROTOCOL_ERROR: return "protocol error";
    case STATUS_TOO_LARGE: return "too large";
    case STATUS_FULL: return "full";
    case STATUS_UNSUPPORTED: return "unsupported";
    case STATUS_BUSY: return "busy";
    case STATUS_NOT_LEADER: return "not leader";
    case STATUS_CLOSED: return "closed";
    case STATUS_IO_ERROR: return "i/o error";
    case STATUS_NO_SPACE: return "no space";
    case STATUS_CORRUPT: return "corrupt";
    case STATUS_DAMAGED: return "damaged";
    }
    return "unknown status";
}
