package dev.trimtab.interop;

import com.google.protobuf.util.JsonFormat;
import com.google.protobuf.util.JsonFormat.TypeRegistry;
import com.linecorp.armeria.client.WebClient;
import com.linecorp.armeria.common.HttpData;
import com.linecorp.armeria.common.HttpMethod;
import com.linecorp.armeria.common.HttpRequest;
import com.linecorp.armeria.common.MediaType;
import com.linecorp.armeria.common.RequestHeaders;
import com.linecorp.armeria.xds.XdsBootstrap;
import com.linecorp.armeria.xds.client.endpoint.XdsHttpPreprocessor;
import io.envoyproxy.envoy.config.bootstrap.v3.Bootstrap;
import io.envoyproxy.envoy.extensions.upstreams.http.v3.HttpProtocolOptions;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** com.linecorp.armeria:armeria-xds with Envoy's bootstrap, as JSON in ENVOY_BOOTSTRAP. */
final class ArmeriaCaller implements Main.Caller {
  private static final int FRAME_HEADER = 5; // gRPC over HTTP/2: a flag and the length

  private final XdsBootstrap bootstrap;
  private final Map<String, WebClient> clients = new ConcurrentHashMap<>();

  ArmeriaCaller() throws IOException {
    var types = TypeRegistry.newBuilder().add(HttpProtocolOptions.getDescriptor()).build();
    var parsed = Bootstrap.newBuilder();
    JsonFormat.parser()
        .usingTypeRegistry(types)
        .ignoringUnknownFields()
        .merge(System.getenv("ENVOY_BOOTSTRAP"), parsed);
    bootstrap = XdsBootstrap.of(parsed.build());
  }

  @Override
  public CompletableFuture<String> who(Main.Road road, double workMs, double within) {
    var name = road.target().replaceFirst("^xds:///", "");
    var client =
        clients.computeIfAbsent(
            name, n -> WebClient.of(XdsHttpPreprocessor.ofListener(n, bootstrap)));
    var headers =
        RequestHeaders.builder(HttpMethod.POST, "/trimtab.test.Echo/Who")
            .contentType(MediaType.parse("application/grpc"))
            .add("te", "trailers")
            .build();
    var payload = Long.toString((long) workMs).getBytes(StandardCharsets.UTF_8);
    var frame = ByteBuffer.allocate(FRAME_HEADER + payload.length);
    frame.put((byte) 0).putInt(payload.length).put(payload);
    return client
        .execute(HttpRequest.of(headers, HttpData.wrap(frame.array())))
        .aggregate()
        .orTimeout((long) (within * 1e3), TimeUnit.MILLISECONDS)
        .thenApply(
            answer -> {
              var status = answer.trailers().get("grpc-status", answer.headers().get("grpc-status", "none"));
              if (!"0".equals(status)) {
                throw new IllegalStateException("grpc-status " + status);
              }
              return answer.content().toString(StandardCharsets.UTF_8).substring(FRAME_HEADER);
            });
  }
}
