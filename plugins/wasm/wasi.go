package wasm

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"log/slog"
	"strings"

	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"
)

// Error numbers of WASI preview 1.
const (
	wasiSuccess = 0
	wasiBadFile = 8
	wasiInvalid = 28
	wasiNoSys   = 52
)

const (
	wasiVectors = 64 // buffers of one write, subscriptions of one poll
	wasiRandom  = operandBytes
)

// wasi is a WASI preview 1 that leads nowhere: there is no file, no argument, no
// environment and no time but that of the request. It exists because tool
// chains link it, whether the plugin uses it or not.
func wasi() []hostFunction {
	var all []hostFunction
	add := func(name, params string, run func(*frame)) {
		s := signature{results: types(i32)}
		for _, p := range params {
			t := api.ValueTypeI32
			if p == 'I' {
				t = api.ValueTypeI64
			}
			s.params = append(s.params, t)
		}
		all = append(all, hostFunction{moduleWASI, name, s, run})
	}
	add("args_get", "ii", succeed)
	add("args_sizes_get", "ii", putZeros)
	add("environ_get", "ii", succeed)
	add("environ_sizes_get", "ii", putZeros)
	add("clock_res_get", "ii", func(f *frame) {
		f.u32()
		f.put(binary.LittleEndian.AppendUint64(nil, 1000))
	})
	add("clock_time_get", "iIi", func(f *frame) {
		f.u32()
		f.u64()
		f.put(binary.LittleEndian.AppendUint64(nil, uint64(f.read())))
	})
	add("random_get", "ii", func(f *frame) {
		_, _ = rand.Read(f.bytes()) // it never fails
	})
	add("fd_write", "iiii", writeFile)
	add("poll_oneoff", "iiii", pollClock)
	add("sched_yield", "", succeed)
	for _, f := range strings.Fields(wasiFiles) {
		name, params, _ := strings.Cut(f, ":")
		add(name, params, func(f *frame) { f.result = wasiBadFile })
	}
	for _, f := range strings.Fields(wasiElse) {
		name, params, _ := strings.Cut(f, ":")
		add(name, params, func(f *frame) { f.result = wasiNoSys })
	}
	return append(all, hostFunction{moduleWASI, "proc_exit", signature{types(i32), nil}, func(f *frame) {
		panic(sys.NewExitError(f.u32()))
	}})
}

// wasiFiles are functions of a descriptor, of which none is open. Letters are
// parameters: i is 32 bits, I is 64.
const wasiFiles = `
	fd_advise:iIIi fd_allocate:iII fd_close:i fd_datasync:i fd_fdstat_get:ii fd_fdstat_set_flags:ii
	fd_fdstat_set_rights:iII fd_filestat_get:ii fd_filestat_set_size:iI fd_filestat_set_times:iIIi
	fd_pread:iiiIi fd_prestat_get:ii fd_prestat_dir_name:iii fd_pwrite:iiiIi fd_read:iiii fd_readdir:iiiIi
	fd_renumber:ii fd_seek:iIii fd_sync:i fd_tell:ii
	path_create_directory:iii path_filestat_get:iiiii path_filestat_set_times:iiiiIIi path_link:iiiiiii
	path_open:iiiiiIIii path_readlink:iiiiii path_remove_directory:iii path_rename:iiiiii
	path_symlink:iiiii path_unlink_file:iii
	sock_accept:iii sock_recv:iiiiii sock_send:iiiii sock_shutdown:ii`

// wasiElse are functions without a descriptor that nobody serves.
const wasiElse = `proc_raise:i`

func succeed(f *frame) { f.result = wasiSuccess }

func putZeros(f *frame) {
	f.put(make([]byte, 4))
	f.put(make([]byte, 4))
}

// writeFile logs what is written to standard output and standard error.
func writeFile(f *frame) {
	fd, vectors, count := f.u32(), f.u32(), f.u32()
	if fd != 1 && fd != 2 {
		f.result = wasiBadFile
		return
	}
	if count > wasiVectors {
		f.result = wasiInvalid
		return
	}
	list := f.view(vectors, 8*count)
	var text bytes.Buffer
	written := uint32(0)
	for ; len(list) > 0; list = list[8:] {
		b := f.view(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		text.Write(b[:min(len(b), operandBytes-text.Len())])
		written += uint32(len(b))
	}
	f.write(f.ctx, slog.LevelInfo, text.Bytes())
	f.put(binary.LittleEndian.AppendUint32(nil, written))
}

// pollClock lets the guest sleep by moving its clock on. Nothing else can be
// waited for: it is ready at once, with an error.
func pollClock(f *frame) {
	in, out, count := f.u32(), f.u32(), f.u32()
	if count == 0 || count > wasiVectors {
		f.result = wasiInvalid
		return
	}
	subscriptions := bytes.Clone(f.view(in, 48*count))
	events := f.view(out, 32*count)
	for i := range int(count) {
		s, e := subscriptions[48*i:48*(i+1)], events[32*i:32*(i+1)]
		clear(e)
		copy(e, s[:8]) // what the guest calls the subscription
		e[10] = s[8]   // its kind
		if s[8] != 0 {
			binary.LittleEndian.PutUint16(e[8:], wasiBadFile)
			continue
		}
		f.sleep(binary.LittleEndian.Uint64(s[24:]), binary.LittleEndian.Uint16(s[40:])&1 == 1)
	}
	f.put(binary.LittleEndian.AppendUint32(nil, count))
}

// sleep moves the clock on by nanoseconds, or to a time. It stays below the year
// 2262, where nanoseconds end.
func (c *call) sleep(nanoseconds uint64, isTime bool) {
	target := nanoseconds
	if !isTime {
		target += uint64(c.clock)
	}
	if int64(target) > c.clock && target < 1<<63 {
		c.clock = int64(target)
	}
}
