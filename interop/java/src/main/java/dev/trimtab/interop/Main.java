package dev.trimtab.interop;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.annotations.SerializedName;
import io.grpc.StatusRuntimeException;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Phaser;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

/**
 * Clients for Java under a test's command: one JSON object per line on stdin and stdout. Its argument
 * says which: "grpc" or "armeria".
 * The commands are those of tests/support/harness/load_process.py.
 */
public final class Main {
  private static final Gson JSON = new GsonBuilder().serializeNulls().create();
  private static final double CALL_WITHIN_S = 5;
  // Open loop, but bounded: a road that hangs is an error, not a full memory.
  private static final int MOST_IN_FLIGHT = 500;

  record Road(String target, Map<String, String> metadata) {}


  /** As the line has it; "do" is a word of the language. */
  static final class Line {
    @SerializedName("do")
    String action;

    int number;
    Road road;
    Map<String, Road> roads;
    double rate;
    @SerializedName("work_ms")
    double workMs;

    double within;
  }

  /** A library that can call. */
  interface Caller {
    /** Who answered; an exception that says why nobody did. */
    CompletableFuture<String> who(Road road, double workMs, double within);
  }

  private static Caller caller;

  private static CompletableFuture<String> who(Road road, double workMs, double within) {
    return caller.who(road, workMs, within);
  }

  private static String textOf(Throwable error) {
    var cause = error instanceof CompletionException ? error.getCause() : error;
    return cause instanceof StatusRuntimeException failed
        ? failed.getStatus().getCode() + ": " + failed.getStatus().getDescription()
        : cause.toString();
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
    caller = arguments[0].equals("armeria") ? new ArmeriaCaller() : new GrpcCaller();
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
