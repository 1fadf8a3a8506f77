"""The protocol of pluggable components: its field numbers, which no Python package ships to compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dapr_shared._proto import file_descriptors

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor

NUMBERS = """
AckMessageError: message=1
AckResponseError: message=1
BulkDeleteRequest: items=1 options=2
BulkDeleteRequestOptions: parallelism=1
BulkGetRequest: items=1 options=2
BulkGetRequestOptions: parallelism=1
BulkGetResponse: items=1
BulkGetSecretRequest: metadata=1
BulkGetSecretResponse: data=1
BulkMessageEntry: entry_id=1 event=2 content_type=3 metadata=4
BulkPublishRequest: entries=1 pubsub_name=2 topic=3 metadata=4
BulkPublishResponse: failed_entries=1
BulkPublishResponseFailedEntry: entry_id=1 error=2
BulkSetRequest: items=1 options=2
BulkSetRequestOptions: parallelism=1
BulkStateItem: key=1 data=2 etag=3 error=4 metadata=5 content_type=6
DeleteRequest: key=1 etag=2 metadata=3 options=4
Etag: value=1
FeaturesResponse: features=1
GetRequest: key=1 metadata=2 consistency=3
GetResponse: data=1 etag=2 metadata=3 content_type=4
GetSecretRequest: key=1 metadata=2
GetSecretResponse: data=1
InitRequest: metadata=1
InputBindingInitRequest: metadata=1
InvokeRequest: data=1 metadata=2 operation=3
InvokeResponse: data=1 metadata=2 content_type=3
ListOperationsResponse: operations=1
MetadataRequest: properties=1
MultiMaxSizeResponse: max_size=1
OutputBindingInitRequest: metadata=1
Pagination: limit=1 token=2
PubSubInitRequest: metadata=1
PublishRequest: data=1 pubsub_name=2 topic=3 metadata=4 content_type=5
PullMessagesRequest: topic=1 ack_message_id=2 ack_error=3
PullMessagesResponse: data=1 topic_name=2 metadata=3 content_type=4 id=5
Query: filter=1 sort=2 pagination=3
QueryItem: key=1 data=2 etag=3 error=4 content_type=5
QueryRequest: query=1 metadata=2
QueryResponse: items=1 token=2 metadata=3
ReadRequest: response_data=1 message_id=2 response_error=3
ReadResponse: data=1 metadata=2 content_type=3 message_id=4
SecretResponse: secrets=1
SecretStoreInitRequest: metadata=1
SetRequest: key=1 value=2 etag=3 metadata=4 options=5 content_type=6
Sorting: key=1 order=2
StateOptions: concurrency=1 consistency=2
Topic: name=1 metadata=2
TransactionalStateOperation: delete=1 set=2
TransactionalStateRequest: operations=1 metadata=2
"""
"""Of reference internal §7, compared once with the files that daprd is built from."""


def fields_of(message: Descriptor, prefix: str = "") -> list[str]:
    name = prefix + message.name
    found = (
        [f"{name}: {' '.join(f'{field.name}={field.number}' for field in message.fields)}"] if message.fields else []
    )
    for nested in message.nested_types:
        if not nested.GetOptions().map_entry:
            found += fields_of(nested, f"{name}.")
    return found


def test_field_numbers() -> None:
    """Every field has the number that components in other languages were built with."""
    files = [file for path, file in file_descriptors().items() if path.startswith("dapr/proto/components/v1/")]
    found = [line for file in files for message in file.message_types_by_name.values() for line in fields_of(message)]
    assert sorted(found) == NUMBERS.strip().splitlines()
