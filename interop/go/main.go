// A native gRPC client for Go under a test's command: one JSON object per line on stdin and stdout.
// The commands are those of tests/support/harness/load_process.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds" // makes xds:/// targets known
)

const (
	method      = "/trimtab.test.Echo/Who"
	reportEvery = 100 * time.Millisecond
	callWithin  = 5.0
	// Open loop, but bounded: a road that hangs is an error, not a full memory.
	mostInFlight = 500
)

type road struct {
	Target   string            `json:"target"`
	Metadata map[string]string `json:"metadata"`
}

type command struct {
	Do     string          `json:"do"`
	Number int             `json:"number"`
	Road   road            `json:"road"`
	Roads  json.RawMessage `json:"roads"`
	Rate   float64         `json:"rate"`
	WorkMs float64         `json:"work_ms"`
	Within float64         `json:"within"`
}

// asIs passes bytes through: the server has no schema.
type asIs struct{}

func (asIs) Marshal(v any) ([]byte, error) { return v.([]byte), nil }
func (asIs) Unmarshal(data []byte, v any) error {
	*(v.(*[]byte)) = append([]byte(nil), data...)
	return nil
}
func (asIs) Name() string { return "as-is" }

// client has one channel per target.
type client struct {
	mu       sync.Mutex
	channels map[string]*grpc.ClientConn
}

func (c *client) channelTo(target string) (*grpc.ClientConn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known := c.channels[target]; known != nil {
		return known, nil
	}
	made, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(asIs{})))
	if err == nil {
		c.channels[target] = made
	}
	return made, err
}

// who answered; an error that says why nobody did.
func (c *client) who(r road, workMs, within float64) (string, error) {
	channel, err := c.channelTo(r.Target)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(within*float64(time.Second)))
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(r.Metadata))
	var answer []byte
	err = channel.Invoke(ctx, method, []byte(fmt.Sprintf("%g", workMs)), &answer)
	return string(answer), err
}

var names = map[codes.Code]string{
	codes.Canceled: "CANCELLED", codes.DeadlineExceeded: "DEADLINE_EXCEEDED",
	codes.Unavailable: "UNAVAILABLE", codes.Internal: "INTERNAL", codes.Unknown: "UNKNOWN",
}

func textOf(err error) string {
	found := status.Convert(err)
	name := names[found.Code()]
	if name == "" {
		name = found.Code().String()
	}
	return name + ": " + found.Message()
}

var out sync.Mutex

func tell(message any) {
	line, err := json.Marshal(message)
	if err != nil {
		panic(err)
	}
	out.Lock()
	defer out.Unlock()
	os.Stdout.Write(append(line, '\n'))
}

type counts struct {
	Served map[string]int `json:"served"`
	Errors map[string]int `json:"errors"`
}

// load sends one request after the other at a fixed rate, whatever the earlier ones do.
type load struct {
	client  *client
	command command
	names   []string
	roads   map[string]road
	mu      sync.Mutex
	found   map[string]*counts
	flying  int
	under   sync.WaitGroup
	end     chan struct{}
	ended   sync.WaitGroup
}

func newLoad(c *client, cmd command) *load {
	l := &load{client: c, command: cmd, roads: map[string]road{}, found: map[string]*counts{},
		end: make(chan struct{})}
	if err := json.Unmarshal(cmd.Roads, &l.roads); err != nil {
		panic(err)
	}
	for name := range l.roads {
		l.names = append(l.names, name)
		l.found[name] = &counts{map[string]int{}, map[string]int{}}
	}
	l.ended.Add(2)
	go l.send()
	go l.report()
	return l
}

func (l *load) send() {
	defer l.ended.Done()
	gap := time.Duration(float64(time.Second) / l.command.Rate)
	begin := time.Now()
	for sent := 0; ; sent++ {
		select {
		case <-l.end:
			return
		case <-time.After(time.Until(begin.Add(time.Duration(sent) * gap))):
		}
		name := l.names[sent%len(l.names)]
		l.mu.Lock()
		if l.flying >= mostInFlight {
			l.found[name].Errors[fmt.Sprintf("not sent: %d requests are under way", mostInFlight)]++
			l.mu.Unlock()
			continue
		}
		l.flying++
		l.mu.Unlock()
		l.under.Add(1)
		go l.request(name)
	}
}

func (l *load) request(name string) {
	defer l.under.Done()
	server, err := l.client.who(l.roads[name], l.command.WorkMs, callWithin)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flying--
	if err != nil {
		l.found[name].Errors[textOf(err)]++
	} else {
		l.found[name].Served[server]++
	}
}

func (l *load) report() {
	defer l.ended.Done()
	for {
		select {
		case <-l.end:
			return
		case <-time.After(reportEvery):
			l.say()
		}
	}
}

func (l *load) say() {
	l.mu.Lock()
	defer l.mu.Unlock()
	tell(map[string]any{"report": l.found})
}

// stop sends nothing more, and waits for what is under way.
func (l *load) stop() {
	close(l.end)
	l.ended.Wait()
	l.under.Wait()
	l.say()
	tell(map[string]any{"stopped": true})
}

func call(c *client, cmd command) {
	begin := time.Now()
	answer := map[string]any{"called": cmd.Number, "server": nil, "error": nil}
	if server, err := c.who(cmd.Road, cmd.WorkMs, cmd.Within); err != nil {
		answer["error"] = textOf(err)
	} else {
		answer["server"] = server
	}
	answer["seconds"] = time.Since(begin).Seconds()
	tell(answer)
}

func main() {
	c := &client{channels: map[string]*grpc.ClientConn{}}
	var running *load
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var cmd command
		if err := json.Unmarshal(lines.Bytes(), &cmd); err != nil {
			panic(err)
		}
		switch cmd.Do {
		case "call":
			go call(c, cmd)
		case "start":
			running = newLoad(c, cmd)
		case "stop":
			running.stop()
		default:
			panic("unknown command " + cmd.Do)
		}
	}
}
