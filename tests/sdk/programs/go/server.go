package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/dapr/go-sdk/service/common"
	daprgrpc "github.com/dapr/go-sdk/service/grpc"
	daprhttp "github.com/dapr/go-sdk/service/http"
)

var printing sync.Mutex

func tell(at string, data any) {
	printing.Lock()
	defer printing.Unlock()
	line, _ := json.Marshal(map[string]any{"at": at, "data": data})
	fmt.Println(string(line))
}

func serve(protocol, address string) error {
	service := daprhttp.NewService(address)
	if protocol == "grpc" {
		var err error
		if service, err = daprgrpc.NewService(address); err != nil {
			return err
		}
	}
	if err := addHandlers(service); err != nil {
		return err
	}
	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT)
	ended := make(chan error, 1)
	go func() { ended <- service.Start() }()
	tell("ready", protocol)
	select {
	case err := <-ended:
		return err
	case <-ends:
		return service.Stop()
	}
}

func addHandlers(service common.Service) error {
	echo := func(_ context.Context, in *common.InvocationEvent) (*common.Content, error) {
		if strings.Contains(string(in.Data), "fail") {
			return nil, errors.New("told to fail")
		}
		return &common.Content{Data: in.Data, ContentType: in.ContentType}, nil
	}
	if err := service.AddServiceInvocationHandler("/echo", echo); err != nil {
		return err
	}
	again := map[string]bool{}
	var lock sync.Mutex
	take := func(at string) common.TopicEventHandler {
		return func(_ context.Context, event *common.TopicEvent) (bool, error) {
			tell(at, event.Data)
			lock.Lock()
			defer lock.Unlock()
			if text := string(event.RawData); strings.Contains(text, "again") && !again[event.ID] {
				again[event.ID] = true
				return true, errors.New("once more")
			}
			return false, nil
		}
	}
	for _, one := range []struct{ topic, route, match, at string }{
		{"orders", "/orders", "", "orders"},
		{"routed", "/widgets", `event.type == "widget"`, "widgets"},
		{"routed", "/others", "", "others"},
	} {
		subscription := &common.Subscription{PubsubName: "pubsub", Topic: one.topic, Route: one.route, Match: one.match, Priority: 1}
		if err := service.AddTopicEventHandler(subscription, take(one.at)); err != nil {
			return err
		}
	}
	return service.AddBindingInvocationHandler("ticks", func(_ context.Context, in *common.BindingEvent) ([]byte, error) {
		tell("ticks", string(in.Data))
		return nil, nil
	})
}
