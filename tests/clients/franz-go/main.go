// franz-go: produce, consume, groups, restart, timestamps, delete.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topic    = "franz-go"
	parts    = 3
	perCodec = 31
	big      = 1_000_000
	base     = int64(1_700_000_000_000)
)

var (
	boot   = os.Getenv("BOOTSTRAP")
	ctx    = context.Background()
	codecs = []struct {
		name  string
		codec kgo.CompressionCodec
	}{
		{"none", kgo.NoCompression()}, {"gzip", kgo.GzipCompression()}, {"snappy", kgo.SnappyCompression()},
		{"lz4", kgo.Lz4Compression()}, {"zstd", kgo.ZstdCompression()},
	}
)

func check(good bool, format string, args ...any) {
	if !good {
		log.Fatalf(format, args...)
	}
}

func must(err error) {
	if err != nil {
		log.Output(2, err.Error())
		os.Exit(1)
	}
}

func wait(what string, done func() bool) {
	end := time.Now().Add(60 * time.Second)
	for !done() {
		check(time.Now().Before(end), "not in 60 s: %s", what)
	}
}

func record(n int) *kgo.Record {
	at := n % perCodec
	value := []byte(fmt.Sprintf("value-%d", n))
	if at == perCodec-1 {
		value = bytes.Repeat([]byte{byte(65 + n%26)}, big)
	} else if at%10 == 9 {
		value = nil
	}
	return &kgo.Record{
		Topic: topic, Partition: int32(n % parts), Key: []byte(fmt.Sprintf("key-%d", n)), Value: value,
		Timestamp: time.UnixMilli(base + int64(n)*1000),
		Headers: []kgo.RecordHeader{
			{Key: "number", Value: []byte(strconv.Itoa(n))}, {Key: "empty", Value: []byte{}}, {Key: "null"},
		},
	}
}

func client(opts ...kgo.Opt) *kgo.Client {
	made, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(strings.Split(boot, ",")...)}, opts...)...)
	must(err)
	return made
}

func produce(from, to int, codec kgo.CompressionCodec, idempotent bool) {
	opts := []kgo.Opt{
		kgo.ProducerBatchCompression(codec), kgo.ProducerBatchMaxBytes(2_000_000),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(20 * time.Millisecond),
	}
	// What a broker wrote before it was killed must not be there twice.
	if !idempotent && os.Getenv("ESKER_KILL_EVERY") == "" {
		opts = append(opts, kgo.DisableIdempotentWrite())
	}
	cl := client(opts...)
	defer cl.Close()
	var all []*kgo.Record
	for n := from; n < to; n++ {
		all = append(all, record(n))
	}
	// Not RecordDeliveryTimeout: it counts from the timestamp of the record, and these are old.
	limited, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	must(cl.ProduceSync(limited, all...).FirstErr())
}

func take(cl *kgo.Client, into *[]int) {
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	fetches := cl.PollFetches(short)
	for _, failed := range fetches.Errors() {
		check(failed.Err == context.DeadlineExceeded, "fetch: %v", failed)
	}
	fetches.EachRecord(func(got *kgo.Record) {
		n, err := strconv.Atoi(string(got.Headers[0].Value))
		must(err)
		want := record(n)
		check(bytes.Equal(got.Key, want.Key), "key of %d", n)
		check(bytes.Equal(got.Value, want.Value) && (got.Value == nil) == (want.Value == nil), "value of %d", n)
		check(got.Timestamp.Equal(want.Timestamp), "timestamp of %d", n)
		check(got.Partition == want.Partition, "partition of %d", n)
		check(len(got.Headers) == 3 && len(got.Headers[1].Value) == 0 && got.Headers[2].Value == nil, "headers of %d", n)
		*into = append(*into, n)
	})
}

func verify(seen []int, from, to int) {
	last := map[int]int{}
	for _, n := range seen {
		before, ok := last[n%parts]
		check(!ok || before < n, "order in partition %d: %d after %d", n%parts, n, before)
		last[n%parts] = n
	}
	sorted := append([]int{}, seen...)
	sort.Ints(sorted)
	check(len(sorted) == to-from, "%d records, not %d", len(sorted), to-from)
	for i, n := range sorted {
		check(n == from+i, "record %d is %d", from+i, n)
	}
}

func covers(seen []int, total int) bool {
	set := map[int]bool{}
	for _, n := range seen {
		set[n] = true
	}
	return len(set) == total
}

func count(total, part int) (found int64) {
	for n := 0; n < total; n++ {
		if n%parts == part {
			found++
		}
	}
	return found
}

type member struct {
	cl   *kgo.Client
	mine map[int32]bool
}

// The protocol of KIP-848 has to be asked for in this way: a plain string is the key.
const next848 = "opt_in_kafka_next_gen_balancer_beta"

func join(group string, balancer kgo.GroupBalancer, next bool) *member {
	m := &member{mine: map[int32]bool{}}
	var how context.Context = ctx
	if next {
		how = context.WithValue(ctx, next848, true)
	}
	m.cl = client(
		kgo.WithContext(how),
		kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.Balancers(balancer),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(500*time.Millisecond),
		kgo.SessionTimeout(10*time.Second), kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
			for _, p := range got[topic] {
				m.mine[p] = true
			}
		}),
		kgo.OnPartitionsRevoked(func(_ context.Context, _ *kgo.Client, lost map[string][]int32) {
			for _, p := range lost[topic] {
				delete(m.mine, p)
			}
		}),
	)
	return m
}

// Polls, notes what the member has while no rebalance can change it, then lets rebalances go on.
func (m *member) take(into *[]int) []int32 {
	take(m.cl, into)
	var mine []int32
	for p := range m.mine {
		mine = append(mine, p)
	}
	m.cl.AllowRebalance()
	return mine
}

func step(format string, args ...any) {
	fmt.Println(time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

func control(arguments ...string) {
	command := exec.Command(os.Getenv("ESKER_CTL"), arguments...)
	command.Stderr = os.Stderr
	must(command.Run())
}

// Cuts a log file before the batch with an offset, as a power cut does that takes what only the page cache had.
func cutBefore(path string, offset uint64) {
	data, err := os.ReadFile(path)
	must(err)
	at := uint32(0)
	for binary.BigEndian.Uint64(data[at:]) < offset {
		at += 12 + binary.BigEndian.Uint32(data[at+8:])
	}
	must(os.Truncate(path, int64(at)))
}

// A power cut takes records that a consumer has read, and others get their offsets: the consumer reports it (KIP-320).
func lostRecords(admin *kadm.Client) {
	const lost = topic + "-lost"
	step("records that were read are lost")
	cache := "page-cache"
	made, err := admin.CreateTopic(ctx, 1, 1, map[string]*string{"durability": &cache}, lost)
	must(err)
	must(made.Err)
	send := func(what string, count int) {
		cl := client(kgo.DefaultProduceTopic(lost))
		defer cl.Close()
		for n := range count {
			must(cl.ProduceSync(ctx, kgo.StringRecord(fmt.Sprintf("%s-%d", what, n))).FirstErr())
		}
	}
	send("before", 10)
	cl := client(kgo.ConsumeTopics(lost), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	var values []string
	var loss *kgo.ErrDataLoss
	poll := func() {
		short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		fetches := cl.PollFetches(short)
		for _, failed := range fetches.Errors() {
			if !errors.As(failed.Err, &loss) {
				check(failed.Err == context.DeadlineExceeded, "fetch: %v", failed)
			}
		}
		fetches.EachRecord(func(got *kgo.Record) { values = append(values, string(got.Value)) })
	}
	wait("the records before", func() bool { poll(); return len(values) == 10 })
	control("kill9")
	cutBefore(os.Getenv("ESKER_STATE")+"/data/"+lost+"-0/00000000000000000000.log", 6)
	control("start", boot)
	// More than were lost: offset 10 exists again.
	send("after", 8)
	wait("the consumer sees the loss", func() bool { poll(); return loss != nil })
	check(loss.Topic == lost && loss.ConsumedTo == 10 && loss.ResetTo == 6, "%v", loss)
	wait("all that is there", func() bool { poll(); return len(values) >= 18 })
	for n := range 8 {
		check(values[10+n] == fmt.Sprintf("after-%d", n), "%v", values)
	}
}

func main() {
	log.SetFlags(log.Lshortfile)
	admin := kadm.NewClient(client())
	step("create")
	size := "2000000"
	replicas, err := strconv.Atoi(os.Getenv("REPLICAS"))
	must(err)
	made, err := admin.CreateTopic(ctx, parts, int16(replicas), map[string]*string{"max.message.bytes": &size}, topic)
	must(err)
	must(made.Err)
	total := len(codecs) * perCodec
	for i, c := range codecs {
		step("produce %s", c.name)
		produce(i*perCodec, (i+1)*perCodec, c.codec, i%2 == 1)
	}

	step("consume all")
	all := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var seen []int
	wait("all records", func() bool { take(all, &seen); return len(seen) >= total })
	all.Close()
	verify(seen, 0, total)
	ends, err := admin.ListEndOffsets(ctx, topic)
	must(err)
	ends.Each(func(o kadm.ListedOffset) {
		must(o.Err)
		check(o.Offset == count(total, int(o.Partition)), "end offset %v", o)
	})

	step("seek by timestamp")
	goal := total / 2
	late := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AfterMilli(base+int64(goal)*1000)))
	seen = nil
	wait("records after a timestamp", func() bool { take(late, &seen); return len(seen) >= total-goal })
	late.Close()
	verify(seen, goal, total)

	for _, kind := range []struct {
		balancer kgo.GroupBalancer
		next     bool
	}{
		{kgo.RangeBalancer(), false}, {kgo.CooperativeStickyBalancer(), false},
		{kgo.RangeBalancer(), true}, {kgo.CooperativeStickyBalancer(), true},
	} {
		balancer := kind.balancer
		group := topic + "-" + balancer.ProtocolName()
		if kind.next {
			group += "-848"
		}
		step("group with two members, %s", group)
		seen = nil
		one := join(group, balancer, kind.next)
		wait("one member has all", func() bool { return len(one.take(&seen)) == parts })
		two := join(group, balancer, kind.next)
		wait("two members share", func() bool {
			a, b := one.take(&seen), two.take(&seen)
			union := map[int32]bool{}
			for _, p := range append(a, b...) {
				union[p] = true
			}
			return len(a) > 0 && len(b) > 0 && len(a)+len(b) == parts && len(union) == parts
		})
		wait("the group has read all", func() bool {
			one.take(&seen)
			two.take(&seen)
			return covers(seen, total)
		})
		// A partition that changed hands is read again by its new owner, who commits only what it has read itself.
		wait("everything is committed", func() bool {
			one.take(&seen)
			two.take(&seen)
			// A node that is killed meanwhile closes its connections: the next look tries again.
			for _, member := range []*member{one, two} {
				if err := member.cl.CommitUncommittedOffsets(ctx); err != nil {
					return false
				}
			}
			offsets, err := admin.FetchOffsets(ctx, group)
			if err != nil {
				return false
			}
			for p := range parts {
				o, ok := offsets.Lookup(topic, int32(p))
				if !ok || o.At != count(total, p) {
					return false
				}
			}
			return true
		})
		if kind.next {
			ask := kmsg.NewPtrConsumerGroupDescribeRequest()
			ask.Groups = []string{group}
			told, err := ask.RequestWith(ctx, one.cl)
			must(err)
			is := told.Groups[0]
			check(is.ErrorCode == 0 && len(is.Members) == 2 && is.State == "Stable", "%+v", is)
			assignor := map[string]string{"range": "range", "cooperative-sticky": "uniform"}[balancer.ProtocolName()]
			check(is.AssignorName == assignor, "the assignor is %s", is.AssignorName)
		} else {
			state, err := admin.DescribeGroups(ctx, group)
			must(err)
			check(len(state[group].Members) == 2, "%d members", len(state[group].Members))
		}
		one.cl.CloseAllowingRebalance()
		two.cl.CloseAllowingRebalance()
	}

	next := total
	for _, how := range []string{"restart", "kill9restart"} {
		step("%s", how)
		control(how)
		produce(next, next+perCodec, kgo.ZstdCompression(), true)
		one := join(topic+"-range", kgo.RangeBalancer(), false)
		seen = nil
		wait("records after the restart", func() bool { one.take(&seen); return len(seen) >= perCodec })
		verify(seen, next, next+perCodec)
		must(one.cl.CommitUncommittedOffsets(ctx))
		one.cl.CloseAllowingRebalance()
		next += perCodec
	}

	// Its log is cut on the first node's disk: a replica elsewhere would not be.
	if nodes := os.Getenv("ESKER_NODES"); nodes == "" || nodes == "1" {
		lostRecords(admin)
	}

	step("delete")
	_, err = admin.DeleteTopics(ctx, topic)
	must(err)
	wait("topic gone", func() bool {
		topics, err := admin.ListTopics(ctx)
		must(err)
		return !topics.Has(topic)
	})
	step("ok")
}
