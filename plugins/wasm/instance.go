package wasm

import (
	"context"
	"errors"
	"fmt"
	"reflect"
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

	alloc, verify   function
	configure, free function  // may be missing
	operands        [2]uint64 // of a call, and its result
}

// function is one that a module exports, or none.
type function struct {
	api.Function

	// stack is what its calls run on. wazero keeps one for each function, lets it grow
	// to 50 MB and has no way to ask: this is the field itself, for looking at its
	// length. Without it, that is the bound.
	stack reflect.Value
}

func exported(m api.Module, name string) function {
	f := function{Function: m.ExportedFunction(name)}
	if v := reflect.ValueOf(f.Function); v.Kind() == reflect.Pointer && v.Elem().Kind() == reflect.Struct {
		if s := v.Elem().FieldByName("stack"); s.Kind() == reflect.Slice {
			f.stack = s
		}
	}
	return f
}

// stackBytes is how long the stack is, zero where that cannot be seen.
func stackBytes(stack reflect.Value) int {
	if !stack.IsValid() {
		return 0
	}
	return stack.Len() * int(stack.Type().Elem().Size())
}

var (
	errMemory = errors.New("the memory of all plugins is used up")
	errStack  = errors.New("stack overflow")
	errAnswer = errors.New("answer outside of the memory or its limit")
)

// start makes an instance. The deadline of the context ends a module that is slow
// at it.
func start(ctx context.Context, c *machine, m *module, b *budget, l Limits) (*instance, error) {
	memory, ok := newLinearMemory(b, m, l)
	if !ok {
		return nil, errMemory
	}
	memory.until(ctx)
	// Nothing of the system is given: host functions are all there is.
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions()
	var mod api.Module
	var err error
	inTime := memory.turn.heavy(memory.deadline, memory.taken, func() {
		mod, err = c.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, memory), c.compiled, config)
	})
	if err == nil && mod == nil {
		err = errDeadline // it never began
	}
	if err != nil {
		memory.Free()
		return nil, err
	}
	i := &instance{
		module: mod, memory: memory,
		alloc: exported(mod, exportAlloc), verify: exported(mod, exportVerify),
		configure: exported(mod, exportConfigure), free: exported(mod, exportFree),
	}
	if !inTime {
		i.close()
		return nil, errDeadline
	}
	for _, name := range []string{exportStart, exportInit, exportVersion} {
		if _, err := i.call(ctx, exported(mod, name)); err != nil {
			i.close()
			return nil, err
		}
	}
	return i, nil
}

// close gives everything back. No call may be running.
func (i *instance) close() {
	_ = i.module.Close(context.WithoutCancel(context.Background()))
	i.memory.Free()
}

// call runs a function, if there is one, with at most two operands and returns its
// result, if it has one.
func (i *instance) call(ctx context.Context, f function, operands ...uint64) (uint64, error) {
	if f.Function == nil {
		return 0, nil
	}
	i.memory.stack = f.stack
	copy(i.operands[:], operands)
	err := f.CallWithStack(ctx, i.operands[:])
	return i.operands[0], err
}

// give copies b into a buffer of the guest.
func (i *instance) give(ctx context.Context, b []byte) (pointer uint64, err error) {
	result, err := i.call(ctx, i.alloc, uint64(len(b)))
	if err != nil {
		return 0, err
	}
	at := api.DecodeU32(result)
	if at == 0 || !i.module.Memory().Write(at, b) {
		return 0, fmt.Errorf("%s gave no room for %d bytes", exportAlloc, len(b))
	}
	return uint64(at), nil
}

// configured hands over a configuration.
func (i *instance) configured(ctx context.Context, configuration []byte, generation uint64) error {
	i.memory.until(ctx)
	i.generation = generation
	if i.configure.Function == nil {
		return nil
	}
	at, err := i.give(ctx, configuration)
	if err != nil {
		return err
	}
	result, err := i.call(ctx, i.configure, at, uint64(len(configuration)))
	if err != nil {
		return err
	}
	if code := api.DecodeI32(result); code != 0 {
		return fmt.Errorf("the plugin does not accept its configuration: %d", code)
	}
	return nil
}

// ask has one request answered. With an answer, an error says only that the
// instance is spent; with neither, the guest reports an internal error.
func (i *instance) ask(ctx context.Context, request []byte, most int) (said string, err error) {
	i.memory.until(ctx)
	i.calls++
	at, err := i.give(ctx, request)
	if err != nil {
		return "", err
	}
	result, err := i.call(ctx, i.verify, at, uint64(len(request)))
	if err != nil || result == 0 {
		return "", err
	}
	pointer, length := uint32(result>>32), uint32(result)
	if length == 0 || length > uint32(most) {
		return "", errAnswer
	}
	view, ok := i.module.Memory().Read(pointer, length)
	if !ok {
		return "", errAnswer
	}
	said = string(view)
	_, err = i.call(ctx, i.free, uint64(pointer), uint64(length))
	return said, err
}
