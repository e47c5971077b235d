package plan

import "github.com/open-policy-agent/opa/v1/ir"

// access says what one statement does with locals, without the blocks in it.
type access struct {
	reads, writes, changes []ir.Local
	blocks                 []*ir.Block
}

// accessOf is in the order of execution: what is read, then what is written. A
// change is that of a value that is being built.
func accessOf(s ir.Stmt) (a access, err error) {
	read := func(operands ...ir.Operand) {
		for _, o := range operands {
			if l, ok := o.Value.(ir.Local); ok {
				a.reads = append(a.reads, l)
			}
		}
	}
	write := func(l ir.Local) { a.writes = append(a.writes, l) }
	change := func(l ir.Local) { a.changes = append(a.changes, l) }

	switch s := s.(type) {
	case *ir.ReturnLocalStmt:
		a.reads = append(a.reads, s.Source)
	case *ir.CallStmt:
		read(s.Args...)
		write(s.Result)
	case *ir.CallDynamicStmt:
		a.reads = append(a.reads, s.Args...)
		read(s.Path...)
		write(s.Result)
	case *ir.BlockStmt:
		a.blocks = s.Blocks
	case *ir.BreakStmt, *ir.NopStmt:
	case *ir.DotStmt:
		read(s.Source, s.Key)
		write(s.Target)
	case *ir.LenStmt:
		read(s.Source)
		write(s.Target)
	case *ir.ScanStmt:
		a.reads = append(a.reads, s.Source)
		write(s.Key)
		write(s.Value)
		a.blocks = []*ir.Block{s.Block}
	case *ir.NotStmt:
		a.blocks = []*ir.Block{s.Block}
	case *ir.AssignIntStmt:
		write(s.Target)
	case *ir.AssignVarStmt:
		read(s.Source)
		write(s.Target)
	case *ir.AssignVarOnceStmt:
		read(s.Source)
		a.reads = append(a.reads, s.Target)
		write(s.Target)
	case *ir.ResetLocalStmt:
		write(s.Target)
	case *ir.MakeNullStmt:
		write(s.Target)
	case *ir.MakeNumberIntStmt:
		write(s.Target)
	case *ir.MakeNumberRefStmt:
		write(s.Target)
	case *ir.MakeArrayStmt:
		write(s.Target)
	case *ir.MakeObjectStmt:
		write(s.Target)
	case *ir.MakeSetStmt:
		write(s.Target)
	case *ir.EqualStmt:
		read(s.A, s.B)
	case *ir.NotEqualStmt:
		read(s.A, s.B)
	case *ir.IsArrayStmt:
		read(s.Source)
	case *ir.IsObjectStmt:
		read(s.Source)
	case *ir.IsSetStmt:
		read(s.Source)
	case *ir.IsDefinedStmt:
		a.reads = append(a.reads, s.Source)
	case *ir.IsUndefinedStmt:
		a.reads = append(a.reads, s.Source)
	case *ir.ArrayAppendStmt:
		read(s.Value)
		change(s.Array)
	case *ir.ObjectInsertStmt:
		read(s.Key, s.Value)
		change(s.Object)
	case *ir.ObjectInsertOnceStmt:
		read(s.Key, s.Value)
		change(s.Object)
	case *ir.ObjectMergeStmt:
		a.reads = append(a.reads, s.A, s.B)
		write(s.Target)
	case *ir.SetAddStmt:
		read(s.Value)
		change(s.Set)
	case *ir.WithStmt:
		read(s.Value)
		a.reads = append(a.reads, s.Local)
		write(s.Local)
		a.blocks = []*ir.Block{s.Block}
	case *ir.ResultSetAddStmt:
		a.reads = append(a.reads, s.Value)
	default:
		return a, unsupported("statement %T", s)
	}
	return a, nil
}

// each calls visit for every statement of the blocks, in the order of the text.
func each(blocks []*ir.Block, visit func(ir.Stmt, access) error) error {
	for _, b := range blocks {
		for _, s := range b.Stmts {
			a, err := accessOf(s)
			if err == nil {
				err = visit(s, a)
			}
			if err == nil {
				err = each(a.blocks, visit)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// written are the locals that the blocks give another value.
func written(blocks []*ir.Block) map[ir.Local]bool {
	all := map[ir.Local]bool{}
	_ = each(blocks, func(_ ir.Stmt, a access) error { // what is unknown was refused before
		for _, l := range a.writes {
			all[l] = true
		}
		for _, l := range a.changes {
			all[l] = true
		}
		return nil
	})
	return all
}

// shared are the locals whose value passes from one part of a function to
// another: those that some part reads before it writes them. Every other part
// has its own of the others, so that what is known of it holds.
func shared(parts [][]*ir.Block, params []ir.Local) map[ir.Local]bool {
	all := map[ir.Local]bool{}
	for _, l := range params {
		all[l] = true
	}
	for _, part := range parts {
		seen := map[ir.Local]bool{}
		_ = each(part, func(_ ir.Stmt, a access) error {
			for _, used := range [][]ir.Local{a.reads, a.changes} {
				for _, l := range used {
					if !seen[l] {
						all[l] = true
					}
				}
			}
			for _, l := range a.writes {
				seen[l] = true
			}
			return nil
		})
	}
	return all
}
