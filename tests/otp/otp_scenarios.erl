%% Plays scenarios on the real OTP and prints what was seen, a line of JSON for each.
%%
%%     erl -noshell -pa DIR -run otp_scenarios play FILE
%%
%% FILE holds Erlang terms, a map for each scenario; scenarios.py tells what they mean, and
%% record_otp_scenarios.py writes them. OTP answers signals when it likes, so every wait here is
%% a little longer than need be: a recording is made once.
-module(otp_scenarios).
-export([play/1, init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2]).
-export([terminate/2, start_worker/3, start_tree/2]).

-define(PAUSE, 3).
-define(WAIT, 20000).

play([File]) ->
    logger:set_primary_config(level, none),
    {ok, Scenarios} = file:consult(File),
    [io:put_chars([json(alone(Scenario)), $\n]) || Scenario <- Scenarios],
    halt(0).

%% A process of its own, that traps exits, for each scenario.
alone(Scenario) ->
    {Pid, Watch} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        exit({seen, play_one(Scenario)})
    end),
    receive
        {'DOWN', Watch, process, Pid, {seen, Seen}} -> Seen;
        {'DOWN', Watch, process, Pid, Other} ->
            io:format(standard_error, "~p~nended the player with ~p~n", [Scenario, Other]),
            halt(1)
    after 3 * ?WAIT ->
        io:format(standard_error, "~p~nhangs~n", [Scenario]),
        halt(1)
    end.

play_one(#{family := supervisor} = Scenario) -> play_tree(Scenario);
play_one(#{family := server} = Scenario) -> play_server(Scenario).

%% ---- what happened, in order

events() -> ets:new(events, [public, ordered_set]).

add(Events, Event) -> ets:insert(Events, {erlang:unique_integer([monotonic]), Event}).

taken(Events) ->
    List = [Event || {_, Event} <- ets:tab2list(Events)],
    ets:delete_all_objects(Events),
    List.

%% ---- reasons and values, as a scenario says them and as they are shown

reason_in([shutdown, Why]) -> {shutdown, Why};
reason_in(Word) -> Word.

seen({oops, Stack}) when is_list(Stack) -> raised;
seen({bad_return_value, _}) -> bad_return_value;
seen(Tuple) when is_tuple(Tuple) -> [seen(Part) || Part <- tuple_to_list(Tuple)];
seen(Other) -> Other.

json(null) -> "null";
json(Number) when is_integer(Number) -> integer_to_list(Number);
json(Word) when is_atom(Word) -> [$", atom_to_list(Word), $"];
json(List) when is_list(List) -> [$[, lists:join($,, [json(Part) || Part <- List]), $]].

%% ---- small helpers of both families

%% Do what ends a process, and wait for its reason.
end_of(Pid, Act) ->
    Watch = monitor(process, Pid),
    Act(),
    down(Watch).

down(Watch) ->
    receive {'DOWN', Watch, process, _, Reason} -> Reason
    after ?WAIT -> error(no_down)
    end.

exit_of(Pid) ->
    receive {'EXIT', Pid, Reason} -> seen(Reason)
    after ?WAIT -> error(no_exit)
    end.

stranger(Act) ->
    {_, Watch} = spawn_monitor(Act),
    down(Watch),
    timer:sleep(?PAUSE).

%% ---- supervisors

play_tree(#{flags := Flags, children := Children, steps := Steps, 'end' := [How, Why]}) ->
    Events = events(),
    Specs = [spec_of(Events, Child) || Child <- Children],
    case start_tree(flags_of(Flags), Specs) of
        {error, Reason} ->
            [['not started', seen(Reason), taken(Events)]];
        {ok, Sup} ->
            Shape = settled(Sup),
            [[started, taken(Events), Shape] | steps(Events, Sup, Steps, {How, reason_in(Why)})]
    end.

steps(Events, Sup, [], {How, Reason}) ->
    case How of
        stop -> gen_server:stop(Sup, Reason, infinity);
        signal -> exit(Sup, Reason)
    end,
    Ended = exit_of(Sup),
    [[ended, Ended, taken(Events)]];
steps(Events, Sup, [Step | Rest], End) ->
    Result = step(Events, Sup, Step),
    timer:sleep(?PAUSE),
    case settled(Sup) of
        [ended, Reason] -> [[Result, taken(Events), [ended, Reason]]];
        Shape -> [[Result, taken(Events), Shape] | steps(Events, Sup, Rest, End)]
    end.

flags_of([Strategy, Intensity, AutoShutdown]) ->
    #{strategy => Strategy, intensity => Intensity, period => 3600, auto_shutdown => AutoShutdown}.

%% A script is shared by all starts of a child: it lies in a table of its own.
spec_of(Events, #{id := Id, restart := Restart, significant := Significant} = Child) ->
    Common = #{id => Id, restart => Restart, significant => Significant},
    case Child of
        #{children := Children, flags := Flags} ->
            Specs = [spec_of(Events, Inner) || Inner <- Children],
            Common#{start => {?MODULE, start_tree, [flags_of(Flags), Specs]}, type => supervisor};
        #{script := Words, shutdown := Shutdown} ->
            Script = ets:new(script, [public]),
            ets:insert(Script, {words, Words}),
            Common#{
                start => {?MODULE, start_worker, [Events, Child, Script]},
                shutdown => case Shutdown of
                    Seconds when is_integer(Seconds) -> 1000 * Seconds;
                    Word -> Word
                end
            }
    end.

start_tree(Flags, Specs) -> supervisor:start_link(?MODULE, {tree, Flags, Specs}).

start_worker(Events, #{id := Id} = Child, Script) ->
    Word = case ets:lookup_element(Script, words, 2) of
        [] -> ok;
        [First | Later] -> ets:insert(Script, {words, Later}), First
    end,
    add(Events, ['try', Id, Word]),
    case Word of
        error -> {error, nope};
        raise -> error(oops);
        exit -> exit(gone);
        wrong -> foo;
        ignore -> ignore;
        _ ->
            case gen_server:start_link(?MODULE, {worker, Events, Child, Word}, []) of
                {ok, Pid} when Word =:= info -> {ok, Pid, info};
                Answer -> Answer
            end
    end.

%% Wait until nothing moves any more: the children and their counts, or the end.
settled(Sup) ->
    case lines_of(Sup) of
        moving -> timer:sleep(1), settled(Sup);
        gone -> [ended, exit_of(Sup)];
        Lines -> [Lines, [Count || {_, Count} <- supervisor:count_children(Sup)]]
    end.

lines_of(Sup) ->
    try supervisor:which_children(Sup) of
        Children ->
            Lines = [line_of(Child) || Child <- Children],
            case lists:member(moving, Lines) of
                true -> moving;
                false -> Lines
            end
    catch
        exit:_ -> gone
    end.

line_of({_, restarting, _, _}) -> moving;
line_of({Id, undefined, Type, _}) -> [Id, Type, down];
line_of({Id, Pid, supervisor, _}) ->
    case lines_of(Pid) of
        Lines when is_list(Lines) -> [Id, supervisor, up, Lines];
        _ -> moving
    end;
line_of({Id, _, Type, _}) -> [Id, Type, up].

find(Sup, Id) ->
    Children = supervisor:which_children(Sup),
    case lists:keyfind(Id, 1, Children) of
        {Id, Child, _, _} -> Child;
        false -> find_below([Pid || {_, Pid, supervisor, _} <- Children, is_pid(Pid)], Id)
    end.

find_below([], _) -> unknown;
find_below([Sup | Rest], Id) ->
    case find(Sup, Id) of
        unknown -> find_below(Rest, Id);
        Found -> Found
    end.

step(_, Sup, [crash, Id, Why]) -> hit(find(Sup, Id), reason_in(Why));
step(_, Sup, [kill, Id]) -> hit(find(Sup, Id), kill);
step(_, Sup, [signal, Id, Why]) ->
    case find(Sup, Id) of
        Pid when is_pid(Pid) -> stranger(fun() -> exit(Pid, reason_in(Why)) end), ok;
        Other -> hit(Other, Why)
    end;
step(_, Sup, [together, Hits]) ->
    Targets = [{find(Sup, Id), reason_in(How)} || [Id, How] <- Hits],
    sys:suspend(Sup),
    Ends = [hit(Target, How) || {Target, How} <- Targets],
    timer:sleep(?PAUSE),
    sys:resume(Sup),
    Ends;
step(Events, Sup, [start_child, Child]) ->
    case supervisor:start_child(Sup, spec_of(Events, Child)) of
        {error, {already_started, _}} -> [error, already_started];
        {error, {Reason, _Spec}} -> [error, seen(Reason)];
        Answer -> answer(Answer)
    end;
step(_, Sup, [Name, Id]) -> answer(supervisor:Name(Sup, Id)).

hit(undefined, _) -> down;
hit(unknown, _) -> unknown;
hit(Pid, kill) -> [died, seen(end_of(Pid, fun() -> exit(Pid, kill) end))];
hit(Pid, Reason) -> [died, seen(end_of(Pid, fun() -> gen_server:cast(Pid, Reason) end))].

answer(ok) -> [ok, null];
answer({ok, undefined}) -> [ok, null];
answer({ok, _Pid}) -> [ok, up];
answer({ok, _Pid, Info}) -> [ok, up, Info];
answer({error, Reason}) -> [error, seen(Reason)].

%% ---- servers

play_server(#{how := How, steps := Steps} = Scenario) ->
    Events = events(),
    case gen_server:How(?MODULE, {server, Events, Scenario}, []) of
        {error, Reason} ->
            [['not started', seen(Reason), taken(Events)]];
        ignore ->
            %% OTP 25 leaves the 'EXIT' of the process that ignored in its starter's mail. From
            %% OTP 26 on, and here, nothing is left of a process that never ran.
            [] = [Reason || Reason <- exits(), Reason =/= normal],
            [[ignored, taken(Events), []]];
        {ok, Pid} ->
            Watch = monitor(process, Pid),
            quiet(Pid),
            put(requests, []),
            First = [started, taken(Events)],
            Seen = [server_step(Events, Pid, Step) || Step <- Steps],
            Last = [server_step(Events, Pid, [stop, normal]) || is_process_alive(Pid)],
            Reason = seen(down(Watch)),
            Answers = [response_of(Request) || Request <- lists:reverse(get(requests))],
            [First | Seen] ++ Last ++ [[ended, Reason, Answers, exits()]]
    end.

server_step(Events, Pid, Step) ->
    Result = server_step(Pid, Step),
    quiet(Pid),
    [Result, taken(Events)].

quiet(Pid) ->
    timer:sleep(?PAUSE),
    case process_info(Pid, [status, message_queue_len]) of
        undefined -> ok;
        [{status, waiting}, {message_queue_len, 0}] -> ok;
        _ -> quiet(Pid)
    end.

exits() ->
    receive {'EXIT', _, Reason} -> [seen(Reason) | exits()]
    after 20 -> []
    end.

server_step(Pid, [call, Action]) -> answer_of(fun() -> gen_server:call(Pid, Action, ?WAIT) end);
server_step(Pid, [ask, Action]) ->
    put(requests, [gen_server:send_request(Pid, Action) | get(requests)]),
    ok;
server_step(Pid, [cast, Action]) -> gen_server:cast(Pid, Action);
server_step(Pid, [info, Action]) -> Pid ! {action, Action}, ok;
server_step(Pid, [signal, Why]) -> exit(Pid, reason_in(Why)), timer:sleep(?PAUSE), ok;
server_step(Pid, [stranger, Why]) -> stranger(fun() -> exit(Pid, reason_in(Why)) end), ok;
server_step(Pid, [peer, Why]) -> stranger(fun() -> link(Pid), exit(reason_in(Why)) end), ok;
server_step(Pid, [get_state]) -> answer_of(fun() -> sys:get_state(Pid) end);
server_step(Pid, [replace_state, New]) ->
    answer_of(fun() -> sys:replace_state(Pid, fun(_) -> New end) end);
server_step(Pid, [stop, Why]) ->
    answer_of(fun() -> gen_server:stop(Pid, reason_in(Why), ?WAIT) end);
server_step(Pid, [suspended, Steps]) ->
    Before = answer_of(fun() -> sys:suspend(Pid) end),
    Results = [server_step(Pid, Step) || Step <- Steps],
    [Before | Results] ++ [answer_of(fun() -> sys:resume(Pid) end)].

answer_of(Call) ->
    try Call() of
        ok -> [answer, null];
        Value -> [answer, seen(Value)]
    catch
        exit:{Reason, {Module, _, Args}} when is_atom(Module), is_list(Args) -> [exit, seen(Reason)];
        exit:Reason -> [exit, seen(Reason)]
    end.

response_of(Request) ->
    case gen_server:receive_response(Request, ?WAIT) of
        {reply, Value} -> [answer, seen(Value)];
        {error, {Reason, _Server}} -> [exit, seen(Reason)]
    end.

%% ---- callbacks; a server's state is a number, what it works with is in its dictionary

init({tree, Flags, Specs}) -> {ok, {Flags, Specs}};
init({worker, Events, #{id := Id, trap := Trap}, Word}) ->
    process_flag(trap_exit, Trap),
    case Word of
        stop -> {stop, istop};
        raise_in_init -> error(oops);
        ignore_in_init -> ignore;
        wrong_in_init -> wrong;
        _ -> add(Events, [start, Id]), {ok, {worker, Events, Id}}
    end;
init({server, Events, #{trap := Trap, init := Init, terminate := Ending}}) ->
    process_flag(trap_exit, Trap),
    put(events, Events),
    put(ending, Ending),
    put(kept, []),
    add(Events, [init]),
    case Init of
        [ok, null] -> {ok, 0};
        [ok, Then] -> {ok, 0, then(Then)};
        [ignore] -> ignore;
        Other -> act(Other, init, 0)
    end.

handle_call([Word | _] = Action, From, State) ->
    add(get(events), [call, Word, State]),
    act(Action, From, State).

handle_cast(Reason, {worker, _, _} = State) -> {stop, Reason, State};
handle_cast([Word | _] = Action, State) ->
    add(get(events), [cast, Word, State]),
    act(Action, none, State).

handle_info(_, {worker, _, _} = State) -> {noreply, State};
handle_info({action, [Word | _] = Action}, State) ->
    add(get(events), [info, Word, State]),
    act(Action, none, State);
handle_info(timeout, State) ->
    add(get(events), [timeout, State]),
    {noreply, State + 1};
handle_info({'EXIT', _, Reason}, State) ->
    add(get(events), [exit, seen(Reason), State]),
    {noreply, State + 1}.

handle_continue([Word | _] = Action, State) ->
    add(get(events), [continue, Word, State]),
    act(Action, none, State).

terminate(Reason, {worker, Events, Id}) -> add(Events, [term, Id, seen(Reason)]);
terminate(Reason, State) ->
    add(get(events), [terminate, seen(Reason), State]),
    case get(ending) of
        [raise] -> error(oops);
        [exit, Why] -> exit(reason_in(Why));
        _ -> whatever
    end.

act([wrong], _, _) -> wrong;
act([raise], _, _) -> error(oops);
act([exit, Why], _, _) -> exit(reason_in(Why));
act([stop, Why], init, _) -> {stop, reason_in(Why)};
act([stop, Why], _, State) -> {stop, reason_in(Why), State + 1};
act([stop_reply, Why, Value], _, State) -> {stop, reason_in(Why), Value, State + 1};
act([reply_stop, Why, Value], From, State) ->
    gen_server:reply(From, Value),
    {stop, reason_in(Why), State + 1};
act([reply, Value, null], _, State) -> {reply, Value, State + 1};
act([reply, Value, Then], _, State) -> {reply, Value, State + 1, then(Then)};
act([reply_first, Value, Then], From, State) ->
    gen_server:reply(From, Value),
    noreply(Then, State);
act([keep, Then], From, State) ->
    put(kept, get(kept) ++ [From]),
    noreply(Then, State);
act([answer, Value, Then], _, State) ->
    case get(kept) of
        [] -> ok;
        [From | Later] -> put(kept, Later), gen_server:reply(From, Value)
    end,
    noreply(Then, State);
act([noreply, Then], _, State) -> noreply(Then, State).

noreply(null, State) -> {noreply, State + 1};
noreply(Then, State) -> {noreply, State + 1, then(Then)}.

then([timeout, Time]) -> Time;
then([continue, Action]) -> {continue, Action};
then(hibernate) -> hibernate.
