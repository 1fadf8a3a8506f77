package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"sync"
	"time"

	dapr "github.com/dapr/go-sdk/client"
	"github.com/dapr/go-sdk/service/common"
)

// A call: its name, and what the name needs of the rest.
type call struct {
	Name     string            `json:"call"`
	Store    string            `json:"store"`
	Key      string            `json:"key"`
	Keys     []string          `json:"keys"`
	Value    string            `json:"value"`
	Etag     string            `json:"etag"`
	Topic    string            `json:"topic"`
	Messages []any             `json:"messages"`
	App      string            `json:"app"`
	Verb     string            `json:"verb"`
	Owner    string            `json:"owner"`
	Seconds  int32             `json:"seconds"`
	Metadata map[string]string `json:"metadata"`
}

// What is told of changes and messages between two calls.
type told struct {
	lock  sync.Mutex
	lines []any
	stop  map[string]func() error
}

func answerCalls(in io.Reader, out io.Writer) error {
	dapr.SetLogger(log.New(os.Stderr, "", 0)) // it writes to standard output otherwise
	client, err := dapr.NewClient()           // DAPR_GRPC_ENDPOINT and DAPR_API_TOKEN of the environment
	if err != nil {
		return err
	}
	defer client.Close()
	seen := &told{stop: map[string]func() error{}}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<24)
	answers := json.NewEncoder(out)
	for lines.Scan() {
		var asked call
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			return err
		}
		value, err := carryOut(client, seen, &asked)
		answer := map[string]any{"value": value}
		if err != nil {
			answer = map[string]any{"error": err.Error()}
		}
		if err := answers.Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func carryOut(client dapr.Client, seen *told, asked *call) (any, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
	defer cancel()
	switch asked.Name {
	case "state.save":
		if asked.Etag != "" {
			return nil, client.SaveStateWithETag(ctx, asked.Store, asked.Key, []byte(asked.Value), asked.Etag, asked.Metadata)
		}
		return nil, client.SaveState(ctx, asked.Store, asked.Key, []byte(asked.Value), asked.Metadata)
	case "state.get":
		item, err := client.GetState(ctx, asked.Store, asked.Key, nil)
		if err != nil {
			return nil, err
		}
		return []string{string(item.Value), item.Etag}, nil
	case "state.bulk":
		items, err := client.GetBulkState(ctx, asked.Store, asked.Keys, nil, 10)
		found := map[string]string{}
		for _, item := range items {
			found[item.Key] = string(item.Value)
		}
		return found, err
	case "state.delete":
		if asked.Etag != "" {
			return nil, client.DeleteStateWithETag(ctx, asked.Store, asked.Key, &dapr.ETag{Value: asked.Etag}, nil, nil)
		}
		return nil, client.DeleteState(ctx, asked.Store, asked.Key, nil)
	case "state.transact": // replaces the first key, deletes the others
		operations := []*dapr.StateOperation{{Type: dapr.StateOperationTypeUpsert, Item: &dapr.SetStateItem{Key: asked.Keys[0], Value: []byte(asked.Value)}}}
		for _, key := range asked.Keys[1:] {
			operations = append(operations, &dapr.StateOperation{Type: dapr.StateOperationTypeDelete, Item: &dapr.SetStateItem{Key: key}})
		}
		return nil, client.ExecuteStateTransaction(ctx, asked.Store, nil, operations)
	case "pubsub.publish":
		return nil, client.PublishEvent(ctx, asked.Store, asked.Topic, asked.Messages[0], dapr.PublishEventWithMetadata(asked.Metadata))
	case "pubsub.bulk":
		answer := client.PublishEvents(ctx, asked.Store, asked.Topic, asked.Messages)
		return len(answer.FailedEvents), answer.Error
	case "pubsub.stream":
		return nil, stream(client, seen, asked)
	case "invoke":
		content := &dapr.DataContent{ContentType: "application/json", Data: []byte(asked.Value)}
		answer, err := client.InvokeMethodWithContent(ctx, asked.App, asked.Key, asked.Verb, content)
		return string(answer), err
	case "secret.get":
		return client.GetSecret(ctx, asked.Store, asked.Key, nil)
	case "secret.bulk":
		return client.GetBulkSecret(ctx, asked.Store, nil)
	case "configuration.get":
		items, err := client.GetConfigurationItems(ctx, asked.Store, asked.Keys)
		found := map[string]string{}
		for key, item := range items {
			found[key] = item.Value
		}
		return found, err
	case "configuration.subscribe":
		return subscribeConfiguration(client, seen, asked)
	case "configuration.unsubscribe":
		return nil, client.UnsubscribeConfigurationItems(ctx, asked.Store, asked.Key)
	case "lock.try":
		answer, err := client.TryLockAlpha1(ctx, asked.Store, &dapr.LockRequest{ResourceID: asked.Key, LockOwner: asked.Owner, ExpiryInSeconds: asked.Seconds})
		if err != nil {
			return nil, err
		}
		return answer.Success, nil
	case "lock.unlock":
		answer, err := client.UnlockAlpha1(ctx, asked.Store, &dapr.UnlockRequest{ResourceID: asked.Key, LockOwner: asked.Owner})
		if err != nil {
			return nil, err
		}
		return answer.StatusCode, nil
	case "binding":
		answer, err := client.InvokeBinding(ctx, &dapr.InvokeBindingRequest{Name: asked.Store, Operation: asked.Verb, Data: []byte(asked.Value), Metadata: asked.Metadata})
		if err != nil {
			return nil, err
		}
		return string(answer.Data), nil
	case "metadata.get":
		return client.GetMetadata(ctx)
	case "told":
		seen.lock.Lock()
		defer seen.lock.Unlock()
		return append([]any{}, seen.lines...), nil
	case "stop":
		return nil, seen.stop[asked.Key]()
	}
	return nil, fmt.Errorf("no such call: %s", asked.Name)
}

// The first delivery of a message marked "again" is answered with a retry.
func stream(client dapr.Client, seen *told, asked *call) error {
	again := map[string]bool{}
	stop, err := client.SubscribeWithHandler(context.Background(), dapr.SubscriptionOptions{PubsubName: asked.Store, Topic: asked.Topic},
		func(event *common.TopicEvent) common.SubscriptionResponseStatus {
			seen.lock.Lock()
			defer seen.lock.Unlock()
			text := fmt.Sprint(event.Data)
			seen.lines = append(seen.lines, text)
			if !again[event.ID] && text == asked.Key {
				again[event.ID] = true
				return common.SubscriptionResponseStatusRetry
			}
			return common.SubscriptionResponseStatusSuccess
		})
	seen.stop[asked.Topic] = stop
	return err
}

func subscribeConfiguration(client dapr.Client, seen *told, asked *call) (any, error) {
	return client.SubscribeConfigurationItems(context.Background(), asked.Store, asked.Keys, func(_ string, items map[string]*dapr.ConfigurationItem) {
		seen.lock.Lock()
		defer seen.lock.Unlock()
		for key, item := range items {
			seen.lines = append(seen.lines, key+"="+item.Value)
		}
	})
}
