"""Errors of Table Store, and the HTTP status of each."""

from tablestore.protobuf import table_store_pb2 as pb2

STATUS = {
    "OTSParameterInvalid": 400,
    "OTSInvalidPK": 400,
    "OTSOutOfRowSizeLimit": 400,
    "OTSOutOfColumnCountLimit": 400,
    "OTSAuthFailed": 403,
    "OTSNoPermissionAccess": 403,
    "OTSQuotaExhausted": 403,
    "OTSNotEnoughCapacityUnit": 403,
    "OTSConditionCheckFail": 403,
    "OTSObjectNotExist": 404,
    "OTSTableNotReady": 404,
    "OTSMethodNotAllowed": 405,
    "OTSUnsupportOperation": 403,
    "OTSObjectAlreadyExist": 409,
    "OTSRowOperationConflict": 409,
    "OTSRequestBodyTooLarge": 413,
    "OTSInternalServerError": 500,
    "OTSServerBusy": 503,
    "OTSPartitionUnavailable": 503,
    "OTSTimeout": 503,
    "OTSServerUnavailable": 503,
}


class Refused(Exception):
    """A request, or a row of it, that is refused."""

    def __init__(self, code, message):
        super().__init__(code, message)
        self.code, self.message = code, message

    @property
    def status(self):
        return STATUS[self.code]

    def body(self):
        return pb2.Error(code=self.code, message=self.message).SerializeToString()


def invalid(message):
    """The error of a wrong parameter."""
    return Refused("OTSParameterInvalid", message)
