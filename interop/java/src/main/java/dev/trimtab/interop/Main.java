package dev.trimtab.interop;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import io.grpc.CallOptions;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import io.grpc.ClientInterceptors;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executors;
import java.util.concurrent.Phaser;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * A native gRPC client for Java under a test's command: one JSON object per line on stdin and stdout.
 * The commands are those of tests/support/harness/load_process.py.
 */
public final class Main {
  private static final Gson JSON = new GsonBuilder().serializeNulls().create();
  private static final double CALL_WITHIN_S = 5;
  // Open loop, but bounded: a road that hangs is an error, not a full memory.
  private static final int MOST_IN_FLIGHT = 500;

  /** Passes bytes through: the server has no schema. */
  private static final MethodDescriptor.Marshaller<byte[]> AS_IS =
      new MethodDescriptor.Marshaller<>() {
        @Override
        public InputStream stream(byte[] value) {
          return new ByteArrayInputStream(value);
        }

        @Override
        public byte[] parse(InputStream stream) {
          try {
            return stream.readAllBytes();
          } catch (IOException e) {
            throw new IllegalStateException(e);
          }
        }
      };

  private static final MethodDescriptor<byte[], byte[]> WHO =
      MethodDescriptor.<byte[], byte[]>newBuilder(AS_IS, AS_IS)
          .setType(MethodDescriptor.MethodType.UNARY)
          .setFullMethodName("trimtab.test.Echo/Who")
          .build();

  record Road(String target, Map<String, String> metadata) {}


  /** As the line has it; "do" is a word of the language. */
  static final class Line {
    @com.google.gson.annotations.SerializedName("do")
    String action;

    int number;
    Road road;
    Map<String, Road> roads;
    double rate;
    @com.google.gson.annotations.SerializedName("work_ms")
    double workMs;

    double within;
  }

  private static final Map<String, ManagedChannel> CHANNELS = new ConcurrentHashMap<>();

  private static ManagedChannel channelTo(String target) {
    return CHANNELS.computeIfAbsent(
        target, t -> ManagedChannelBuilder.forTarget(t).usePlaintext().build());
  }

  /** Who answered; a StatusRuntimeException that says why nobody did. */
  private static CompletableFuture<String> who(Road road, double workMs, double within) {
    var metadata = new Metadata();
    road.metadata()
        .forEach((k, v) -> metadata.put(Metadata.Key.of(k, Metadata.ASCII_STRING_MARSHALLER), v));
    var channel =
        ClientInterceptors.intercept(
            channelTo(road.target()), MetadataUtils.newAttachHeadersInterceptor(metadata));
    var options =
        CallOptions.DEFAULT.withDeadlineAfter((long) (within * 1e9), TimeUnit.NANOSECONDS);
    var answer = new CompletableFuture<String>();
    var payload = Long.toString((long) workMs).getBytes(StandardCharsets.UTF_8);
    ClientCalls.asyncUnaryCall(
        channel.newCall(WHO, options),
        payload,
        new StreamObserver<>() {
          @Override
          public void onNext(byte[] value) {
            answer.complete(new String(value, StandardCharsets.UTF_8));
          }

          @Override
          public void onError(Throwable error) {
            answer.completeExceptionally(error);
          }

          @Override
          public void onCompleted() {}
        });
    return answer;
  }

  private static String textOf(Throwable error) {
    return error instanceof StatusRuntimeException failed
        ? failed.getStatus().getCode() + ": " + failed.getStatus().getDescription()
        : error.toString();
  }

  private static synchronized void tell(Object message) {
    System.out.println(JSON.toJson(message));
  }

  record Counts(Map<String, Integer> served, Map<String, Integer> errors) {}

  /** One request after the other at a fixed rate, whatever the earlier ones do. */
  private static final class Load {
    private final Line command;
    private final List<String> names;
    private final Map<String, Counts> counts = new HashMap<>();
    private final Phaser underWay = new Phaser(1);
    private final ScheduledExecutorService timers = Executors.newScheduledThreadPool(1);
    private final long begin = System.nanoTime();
    private long sent;
    private int inFlight;

    Load(Line command) {
      this.command = command;
      names = new ArrayList<>(command.roads.keySet());
      names.forEach(n -> counts.put(n, new Counts(new TreeMap<>(), new TreeMap<>())));
      timers.scheduleAtFixedRate(this::send, 0, 5, TimeUnit.MILLISECONDS);
      timers.scheduleAtFixedRate(this::report, 100, 100, TimeUnit.MILLISECONDS);
    }

    private synchronized void send() {
      double due = (System.nanoTime() - begin) / 1e9 * command.rate;
      for (; sent < due; sent++) {
        var name = names.get((int) (sent % names.size()));
        if (inFlight >= MOST_IN_FLIGHT) {
          count(counts.get(name).errors(), "not sent: " + MOST_IN_FLIGHT + " requests are under way");
          continue;
        }
        inFlight++;
        underWay.register();
        who(command.roads.get(name), command.workMs, CALL_WITHIN_S)
            .whenComplete((server, error) -> ended(name, server, error));
      }
    }

    private synchronized void ended(String name, String server, Throwable error) {
      inFlight--;
      if (error == null) {
        count(counts.get(name).served(), server);
      } else {
        count(counts.get(name).errors(), textOf(error));
      }
      underWay.arriveAndDeregister();
    }

    private static void count(Map<String, Integer> table, String key) {
      table.merge(key, 1, Integer::sum);
    }

    private synchronized void report() {
      tell(Map.of("report", counts));
    }

    /** Sends nothing more, and waits for what is under way. */
    void stop() throws InterruptedException {
      timers.shutdown();
      timers.awaitTermination(10, TimeUnit.SECONDS);
      underWay.arriveAndAwaitAdvance();
      report();
      tell(Map.of("stopped", true));
    }
  }

  private static void call(Line command) {
    long begin = System.nanoTime();
    who(command.road, command.workMs, command.within)
        .whenComplete(
            (server, error) -> {
              var answer = new HashMap<String, Object>();
              answer.put("called", command.number);
              answer.put("server", server);
              answer.put("error", error == null ? null : textOf(error));
              answer.put("seconds", (System.nanoTime() - begin) / 1e9);
              tell(answer);
            });
  }

  public static void main(String[] arguments) throws Exception {
    Load load = null;
    var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    for (String text = lines.readLine(); text != null; text = lines.readLine()) {
      var command = JSON.fromJson(text, Line.class);
      switch (command.action) {
        case "call" -> call(command);
        case "start" -> load = new Load(command);
        case "stop" -> load.stop();
        default -> throw new IllegalArgumentException(command.action);
      }
    }
    System.exit(0); // channels would keep the process
  }
}
