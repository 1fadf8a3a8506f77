import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import io.dapr.client.DaprClient;
import io.dapr.client.DaprClientBuilder;
import io.dapr.client.DaprPreviewClient;
import io.dapr.client.Subscription;
import io.dapr.client.SubscriptionListener;
import io.dapr.client.domain.CloudEvent;
import io.dapr.client.domain.HttpExtension;
import io.dapr.client.domain.State;
import io.dapr.client.domain.TransactionalStateOperation;
import io.dapr.client.domain.TransactionalStateOperation.OperationType;
import io.dapr.utils.TypeRef;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import reactor.core.publisher.Mono;

/**
 * Calls of the official Java SDK's client: one JSON line each on standard input, its answer on standard output.
 *
 * <p>The endpoint and the token are those of the environment: DAPR_HTTP_ENDPOINT, DAPR_GRPC_ENDPOINT, DAPR_API_TOKEN.
 */
public class Program {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final Duration PATIENCE = Duration.ofSeconds(15);

  private final DaprClient client;
  private final DaprPreviewClient preview;
  private final List<String> told = new CopyOnWriteArrayList<>();
  private final Map<String, Subscription<JsonNode>> streams = new ConcurrentHashMap<>();

  Program(DaprClient client, DaprPreviewClient preview) {
    this.client = client;
    this.preview = preview;
  }

  public static void main(String[] words) throws Exception {
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    System.setOut(System.err);
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (DaprClient client = new DaprClientBuilder().build();
        DaprPreviewClient preview = new DaprClientBuilder().buildPreviewClient()) {
      Program program = new Program(client, preview);
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        Map<String, Object> answer = new HashMap<>();
        try {
          answer.put("value", program.carryOut(JSON.readTree(line)));
        } catch (RuntimeException error) {
          answer.put("error", String.valueOf(error));
        }
        out.println(JSON.writeValueAsString(answer));
      }
    }
  }

  private Object carryOut(JsonNode asked) throws Exception {
    String store = asked.path("store").asText();
    String key = asked.path("key").asText();
    String value = asked.path("value").asText();
    String etag = asked.hasNonNull("etag") ? asked.get("etag").asText() : null;
    String topic = asked.path("topic").asText();
    Map<String, String> metadata = JSON.convertValue(asked.path("metadata"), new com.fasterxml.jackson.core.type.TypeReference<>() {});
    switch (asked.get("call").asText()) {
      case "state.save":
        client.saveState(store, key, etag, JSON.readTree(value), null).block(PATIENCE);
        return null;
      case "state.get":
        State<JsonNode> item = client.getState(store, key, JsonNode.class).block(PATIENCE);
        return List.of(text(item.getValue()), item.getEtag() == null ? "" : item.getEtag());
      case "state.bulk":
        Map<String, String> found = new HashMap<>();
        for (State<JsonNode> one : client.getBulkState(store, texts(asked.get("keys")), JsonNode.class).block(PATIENCE)) {
          found.put(one.getKey(), text(one.getValue()));
        }
        return found;
      case "state.delete":
        client.deleteState(store, key, etag, null).block(PATIENCE);
        return null;
      case "state.transact": // replaces the first key, deletes the others
        List<TransactionalStateOperation<?>> operations = new ArrayList<>();
        List<String> keys = texts(asked.get("keys"));
        operations.add(new TransactionalStateOperation<>(OperationType.UPSERT, new State<>(keys.get(0), JSON.readTree(value), null)));
        for (String gone : keys.subList(1, keys.size())) {
          operations.add(new TransactionalStateOperation<>(OperationType.DELETE, new State<>(gone)));
        }
        client.executeStateTransaction(store, operations).block(PATIENCE);
        return null;
      case "pubsub.publish":
        client.publishEvent(store, topic, asked.get("messages").get(0), metadata == null ? Map.of() : metadata).block(PATIENCE);
        return null;
      case "pubsub.bulk":
        List<JsonNode> messages = new ArrayList<>();
        asked.get("messages").forEach(messages::add);
        return preview.publishEvents(store, topic, "application/json", messages).block(PATIENCE).getFailedEntries().size();
      case "pubsub.stream":
        streams.put(topic, stream(store, topic, key));
        return null;
      case "stop":
        streams.get(key).close();
        return null;
      case "invoke":
        HttpExtension verb = new HttpExtension(io.dapr.client.DaprHttp.HttpMethods.valueOf(asked.get("verb").asText().toUpperCase()));
        return text(client.invokeMethod(asked.get("app").asText(), key, JSON.readTree(value), verb, JsonNode.class).block(PATIENCE));
      case "secret.get":
        return client.getSecret(store, key).block(PATIENCE);
      case "secret.bulk":
        return client.getBulkSecret(store).block(PATIENCE);
      case "configuration.get":
        Map<String, String> items = new HashMap<>();
        client.getConfiguration(store, texts(asked.get("keys")), null).block(PATIENCE).forEach((name, one) -> items.put(name, one.getValue()));
        return items;
      case "configuration.subscribe":
        return subscribeConfiguration(store, texts(asked.get("keys")));
      case "configuration.unsubscribe":
        client.unsubscribeConfiguration(key, store).block(PATIENCE);
        return null;
      case "lock.try":
        return preview.tryLock(store, key, asked.get("owner").asText(), asked.get("seconds").asInt()).block(PATIENCE);
      case "lock.unlock":
        return preview.unlock(store, key, asked.get("owner").asText()).block(PATIENCE).getCode();
      case "binding":
        byte[] answered = client.invokeBinding(store, asked.get("verb").asText(), value.getBytes(StandardCharsets.UTF_8), metadata).block(PATIENCE);
        return answered == null ? "" : new String(answered, StandardCharsets.UTF_8);
      case "metadata.get":
        return metadataOf();
      case "told":
        return told;
      default:
        throw new IllegalArgumentException("no such call: " + asked.get("call"));
    }
  }

  private Object metadataOf() {
    var metadata = client.getMetadata().block(PATIENCE);
    List<Map<String, String>> components = new ArrayList<>();
    metadata.getComponents().forEach(one -> components.add(Map.of("Name", one.getName())));
    return Map.of("ID", metadata.getId(), "RegisteredComponents", components);
  }

  /** The first delivery of a message that is `again` is answered with a retry. */
  private Subscription<JsonNode> stream(String store, String topic, String again) {
    Set<String> seen = new HashSet<>();
    return preview.subscribeToEvents(store, topic, new SubscriptionListener<JsonNode>() {
      @Override
      public synchronized Mono<Status> onEvent(CloudEvent<JsonNode> event) {
        told.add(event.getData().asText());
        boolean first = seen.add(event.getId());
        return Mono.just(first && again.equals(event.getData().asText()) ? Status.RETRY : Status.SUCCESS);
      }

      @Override
      public void onError(RuntimeException error) {
        System.err.println(error);
      }
    }, TypeRef.get(JsonNode.class));
  }

  private String subscribeConfiguration(String store, List<String> keys) throws Exception {
    var id = new java.util.concurrent.CompletableFuture<String>();
    client.subscribeConfiguration(store, keys, null).subscribe(
        change -> {
          change.getItems().forEach((key, item) -> told.add(key + "=" + item.getValue()));
          id.complete(change.getSubscriptionId());
        },
        id::completeExceptionally);
    return id.get(PATIENCE.toSeconds(), java.util.concurrent.TimeUnit.SECONDS);
  }

  private static List<String> texts(JsonNode node) {
    List<String> found = new ArrayList<>();
    node.forEach(one -> found.add(one.asText()));
    return found;
  }

  private static String text(JsonNode node) {
    return node == null || node.isNull() || node.isMissingNode() ? "" : node.toString();
  }
}
