package wasm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/cordon-mq/cordon/policy"
)

// instance is a module with a memory. One goroutine uses it at a time; after an
// error of any function of it nobody may.
type instance struct {
	module api.Module
	memory *linearMemory
	org    policy.OrgID // whose secrets it may have seen; zero: nobody's, it is fresh
	// generation is that of the configuration it has.
	generation uint64
	calls      int
	usedAt     time.Time

	alloc, verify   api.Function
	configure, free api.Function // may be nil
}

var (
	errMemory = errors.New("the memory of all plugins is used up")
	errAnswer = errors.New("answer outside of the memory or its limit")
)

// start makes an instance. The deadline of the context ends a module that is slow
// at it.
func start(ctx context.Context, c machine, m *module, b *budget, l Limits) (*instance, error) {
	memory, ok := newLinearMemory(b, m, l)
	if !ok {
		return nil, errMemory
	}
	memory.until(ctx)
	// Nothing of the system is given: host functions are all there is.
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions(exportInit)
	mod, err := c.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, memory), c.compiled, config)
	if err != nil {
		memory.Free()
		return nil, err
	}
	i := &instance{
		module: mod, memory: memory,
		alloc: mod.ExportedFunction(exportAlloc), verify: mod.ExportedFunction(exportVerify),
		configure: mod.ExportedFunction(exportConfigure), free: mod.ExportedFunction(exportFree),
	}
	if _, err := mod.ExportedFunction(exportVersion).Call(ctx); err != nil {
		i.close()
		return nil, err
	}
	return i, nil
}

// close gives everything back. No call may be running.
func (i *instance) close() {
	_ = i.module.Close(context.WithoutCancel(context.Background()))
	i.memory.Free()
}

// give copies b into a buffer of the guest.
func (i *instance) give(ctx context.Context, b []byte) (pointer uint64, err error) {
	result, err := i.alloc.Call(ctx, uint64(len(b)))
	if err != nil {
		return 0, err
	}
	at := api.DecodeU32(result[0])
	if at == 0 || !i.module.Memory().Write(at, b) {
		return 0, fmt.Errorf("%s gave no room for %d bytes", exportAlloc, len(b))
	}
	return uint64(at), nil
}

// configured hands over a configuration.
func (i *instance) configured(ctx context.Context, configuration []byte, generation uint64) error {
	i.memory.until(ctx)
	i.generation = generation
	if i.configure == nil {
		return nil
	}
	at, err := i.give(ctx, configuration)
	if err != nil {
		return err
	}
	result, err := i.configure.Call(ctx, at, uint64(len(configuration)))
	if err != nil {
		return err
	}
	if code := api.DecodeI32(result[0]); code != 0 {
		return fmt.Errorf("the plugin does not accept its configuration: %d", code)
	}
	return nil
}

// ask has one request answered. The answer is a copy; nil is the guest's own
// internal error. With an answer, an error says only that the instance is spent.
func (i *instance) ask(ctx context.Context, request []byte, most int) (answer []byte, err error) {
	i.memory.until(ctx)
	i.calls++
	at, err := i.give(ctx, request)
	if err != nil {
		return nil, err
	}
	result, err := i.verify.Call(ctx, at, uint64(len(request)))
	if err != nil {
		return nil, err
	}
	pointer, length := uint32(result[0]>>32), uint32(result[0])
	if result[0] == 0 {
		return nil, nil
	}
	if length > uint32(most) {
		return nil, errAnswer
	}
	view, ok := i.module.Memory().Read(pointer, length)
	if !ok {
		return nil, errAnswer
	}
	answer = append(make([]byte, 0, length), view...)
	if i.free != nil {
		_, err = i.free.Call(ctx, uint64(pointer), uint64(length))
	}
	return answer, err
}
