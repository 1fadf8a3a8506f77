"""The transactional outbox by the official Python SDK: a transaction of one app, an event at another."""

from __future__ import annotations

import json

from dapr.clients import DaprClient
from dapr.clients.grpc._request import TransactionalStateOperation

from tests.support.apps import until
from tests.support.instance import app, component, running, token_of
from tests.support.topic_apps import TopicApp, route, topic_app


def test_a_transaction_with_a_projection(tmp_path, monkeypatch):
    """What the SDK writes is in the store, what it projects reaches the subscriber, with the fields that it overrides."""
    with topic_app(TopicApp([route("newOrder")])) as stock:
        resources = [
            app("orders"),
            app("stock", stock.port),
            component("pubsub", "pubsub.in-memory"),
            component("store", "state.in-memory", outboxPublishPubsub="pubsub", outboxPublishTopic="newOrder"),
        ]
        with running(tmp_path, resources=resources) as instance:
            instance.wait_for_line("subscription started", app_id="stock")
            monkeypatch.setenv("DAPR_GRPC_ENDPOINT", instance.grpc)
            monkeypatch.setenv("DAPR_HTTP_ENDPOINT", f"http://{instance.http}")
            monkeypatch.setenv("DAPR_HEALTH_TIMEOUT", "5")
            monkeypatch.setenv("DAPR_API_TOKEN", token_of("orders"))
            projection = {"outbox.projection": "true", "contentType": "application/json"}
            with DaprClient() as client:
                client.execute_state_transaction(
                    "store",
                    [
                        TransactionalStateOperation(
                            key="k", data=json.dumps({"all": 1}), metadata={"cloudevent.source": "crm"}
                        ),
                        TransactionalStateOperation(key="k", data=json.dumps({"id": 7}), metadata=projection),
                    ],
                )
                assert json.loads(client.get_state("store", "k").data) == {"all": 1}
            until(lambda: stock.got)
            event = stock.got[0][1]
            assert (event["data"], event["source"]) == ({"id": 7}, "crm")
