"""A client as users write it, with nothing of dapr-shared: Dapr's SDK and its three environment variables.

python3 client.py state KEY VALUE        saves, reads again, prints what is read
python3 client.py read KEY               prints what is saved
python3 client.py publish FIRST LAST [TOPIC]
                                         publishes orders with these numbers
python3 client.py invoke APP TIMES       calls `where` of an app; prints the answers
python3 client.py whoami                 prints the app id that the instance says
"""

from __future__ import annotations

import json
import sys

from dapr.clients import DaprClient


def main(command: str, *words: str) -> None:
    """Do one thing; print the result as JSON."""
    with DaprClient() as client:
        if command == "state":
            client.save_state("statestore", words[0], words[1])
            result = client.get_state("statestore", words[0]).data.decode()
        elif command == "read":
            result = client.get_state("statestore", words[0]).data.decode()
        elif command == "publish":
            topic = words[2] if len(words) > 2 else "orders"
            for number in range(int(words[0]), int(words[1]) + 1):
                data = json.dumps({"number": number})
                client.publish_event("pubsub", topic, data, data_content_type="application/json")
            result = "published"
        elif command == "invoke":
            answers = [client.invoke_method(words[0], "where", data=b"", http_verb="GET") for _ in range(int(words[1]))]
            result = [json.loads(answer.data) for answer in answers]
        else:
            result = client.get_metadata().application_id
    print(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
