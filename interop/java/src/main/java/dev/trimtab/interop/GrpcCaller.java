package dev.trimtab.interop;

import io.grpc.CallOptions;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.stub.ClientCalls;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;

/** io.grpc:grpc-xds; one channel per target. */
final class GrpcCaller implements Main.Caller {
  /** tests/support/harness/zones.py knows it. */
  private static final String LOST = "lost: gRPC let its deadline pass without an end";
  private static final long GRACE_MS = 1000;

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

  private final Map<String, ManagedChannel> channels = new ConcurrentHashMap<>();

  private ManagedChannel channelTo(String target) {
    return channels.computeIfAbsent(
        target, t -> ManagedChannelBuilder.forTarget(t).usePlaintext().build());
  }

  @Override
  public CompletableFuture<String> who(Main.Road road, double workMs, double within) {
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
    // A call that begins while its endpoint leaves is now and then never ended, deadline or not.
    CompletableFuture.delayedExecutor((long) (within * 1e3) + GRACE_MS, TimeUnit.MILLISECONDS)
        .execute(() -> answer.completeExceptionally(new IllegalStateException(LOST)));
    return answer;
  }
}
