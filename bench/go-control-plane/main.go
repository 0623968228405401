// An xDS server on go-control-plane's snapshot cache, driven over stdin as bench/push.py drives ours.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// All clients share one snapshot: the cache's cheapest case.
type oneGroup struct{}

func (oneGroup) ID(*core.Node) string { return "all" }

func assignment(name string, count, turn int) *endpoint.ClusterLoadAssignment {
	endpoints := make([]*endpoint.LbEndpoint, 0, count)
	for i := range count {
		at := i
		if i == 0 {
			at = count + turn%2
		}
		endpoints = append(endpoints, &endpoint.LbEndpoint{
			HealthStatus: core.HealthStatus_HEALTHY,
			HostIdentifier: &endpoint.LbEndpoint_Endpoint{Endpoint: &endpoint.Endpoint{
				Address: &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
					Address:       fmt.Sprintf("10.0.%d.%d", at>>8, at&255),
					PortSpecifier: &core.SocketAddress_PortValue{PortValue: 50051},
				}}},
			}},
		})
	}
	return &endpoint.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpoint.LocalityLbEndpoints{{
		Locality:            &core.Locality{Region: "r", Zone: "z1"},
		LoadBalancingWeight: wrapperspb.UInt32(uint32(count)),
		LbEndpoints:         endpoints,
	}}}
}

// CLOCK_MONOTONIC, which all processes of a machine share.
func monotonic() float64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		panic(err)
	}
	return float64(now.Sec) + float64(now.Nsec)/1e9
}

func cpu() float64 {
	var used unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func main() {
	names := strings.Split(os.Args[1], ",")
	count, _ := strconv.Atoi(os.Args[2])
	snapshots := cache.NewSnapshotCache(false, oneGroup{}, nil)
	turn := 0
	put := func() {
		turn++
		all := make([]types.Resource, 0, len(names))
		for i, name := range names {
			mine := 0
			if i == 0 {
				mine = turn
			}
			all = append(all, assignment(name, count, mine))
		}
		snapshot, err := cache.NewSnapshot(strconv.Itoa(turn), map[resource.Type][]types.Resource{resource.EndpointType: all})
		if err != nil {
			panic(err)
		}
		if err := snapshots.SetSnapshot(context.Background(), "all", snapshot); err != nil {
			panic(err)
		}
	}
	put()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	plane := grpc.NewServer(grpc.MaxConcurrentStreams(1000000))
	discovery.RegisterAggregatedDiscoveryServiceServer(plane, server.NewServer(context.Background(), snapshots, nil))
	go func() { _ = plane.Serve(listener) }()
	out := json.NewEncoder(os.Stdout)
	_ = out.Encode(map[string]any{"port": listener.Addr().(*net.TCPAddr).Port})
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch lines.Text() {
		case "push":
			began := monotonic()
			put()
			_ = out.Encode(map[string]any{"began": began, "cpu": cpu()})
		case "cpu":
			_ = out.Encode(map[string]any{"cpu": cpu()})
		case "stop":
			return
		}
		time.Sleep(0)
	}
}
