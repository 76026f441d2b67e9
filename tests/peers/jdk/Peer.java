import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.TreeMap;
import javax.security.auth.callback.Callback;
import javax.security.auth.callback.CallbackHandler;
import javax.security.auth.callback.NameCallback;
import javax.security.auth.callback.PasswordCallback;
import javax.security.auth.callback.UnsupportedCallbackException;
import javax.security.sasl.AuthorizeCallback;
import javax.security.sasl.RealmCallback;
import javax.security.sasl.RealmChoiceCallback;
import javax.security.sasl.Sasl;
import javax.security.sasl.SaslClient;
import javax.security.sasl.SaslException;
import javax.security.sasl.SaslServer;

/**
 * The JDK's DIGEST-MD5 as a peer: tests/peers/jdk.py starts it and says what it does.
 *
 * <p>It prints the port of its control. A connection to that is one case: a line of options comes
 * in, form-encoded; a server answers with a line that has its port; a line of results ends it. The
 * program ends with its standard input.
 *
 * <p>The login is that of tests/peers/plain_exchange.py. Behind it the peer sends what `sends` says,
 * then sends back what it gets until the other side is at its end, then closes. An `eager` one sends
 * in one segment with its last message of the login.
 */
public final class Peer {
    static final int PATIENCE = 15_000;

    private Peer() {}

    public static void main(String[] arguments) throws IOException {
        try (ServerSocket control = new ServerSocket(0, 50, InetAddress.getLoopbackAddress())) {
            System.out.println(control.getLocalPort());
            start(Peer::endWithInput);
            while (true) {
                Socket connection = control.accept();
                start(() -> serve(connection));
            }
        }
    }

    private static void start(Runnable task) {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        thread.start();
    }

    private static void endWithInput() {
        try {
            while (System.in.read() >= 0) {}
        } catch (IOException error) {
            // as good as an end
        }
        Runtime.getRuntime().halt(0);
    }

    private static void serve(Socket connection) {
        try (connection) {
            connection.setSoTimeout(PATIENCE);
            OutputStream report = connection.getOutputStream();
            Map<String, String> options = decode(readLine(connection.getInputStream()));
            report.write(encode(new Case(options, report).run()));
        } catch (IOException error) {
            error.printStackTrace();
        }
    }

    private static String readLine(InputStream input) throws IOException {
        ByteArrayOutputStream line = new ByteArrayOutputStream();
        for (int octet = input.read(); octet != '\n'; octet = input.read()) {
            if (octet < 0) {
                throw new EOFException("no line");
            }
            line.write(octet);
        }
        return line.toString(StandardCharsets.US_ASCII);
    }

    static Map<String, String> decode(String line) {
        Map<String, String> values = new TreeMap<>();
        for (String pair : line.split("&")) {
            int border = pair.indexOf('=');
            values.put(
                    URLDecoder.decode(pair.substring(0, border), StandardCharsets.UTF_8),
                    URLDecoder.decode(pair.substring(border + 1), StandardCharsets.UTF_8));
        }
        return values;
    }

    static byte[] encode(Map<String, ?> values) {
        StringBuilder line = new StringBuilder();
        values.forEach(
                (name, value) ->
                        line.append(line.length() == 0 ? "" : "&")
                                .append(name)
                                .append('=')
                                .append(URLEncoder.encode("" + value, StandardCharsets.UTF_8)));
        return line.append('\n').toString().getBytes(StandardCharsets.US_ASCII);
    }
}

/** One side of a mechanism, client's or server's. */
interface Mechanism {
    byte[] step(byte[] message) throws SaslException;

    boolean isComplete();

    byte[] wrap(byte[] message, int offset, int length) throws SaslException;

    byte[] unwrap(byte[] token) throws SaslException;

    Object property(String name);

    static Mechanism of(SaslClient client) {
        return new Mechanism() {
            @Override
            public byte[] step(byte[] message) throws SaslException {
                return client.evaluateChallenge(message);
            }

            @Override
            public boolean isComplete() {
                return client.isComplete();
            }

            @Override
            public byte[] wrap(byte[] message, int offset, int length) throws SaslException {
                return client.wrap(message, offset, length);
            }

            @Override
            public byte[] unwrap(byte[] token) throws SaslException {
                return client.unwrap(token, 0, token.length);
            }

            @Override
            public Object property(String name) {
                return client.getNegotiatedProperty(name);
            }
        };
    }

    static Mechanism of(SaslServer server) {
        return new Mechanism() {
            @Override
            public byte[] step(byte[] message) throws SaslException {
                return server.evaluateResponse(message);
            }

            @Override
            public boolean isComplete() {
                return server.isComplete();
            }

            @Override
            public byte[] wrap(byte[] message, int offset, int length) throws SaslException {
                return server.wrap(message, offset, length);
            }

            @Override
            public byte[] unwrap(byte[] token) throws SaslException {
                return server.unwrap(token, 0, token.length);
            }

            @Override
            public Object property(String name) {
                return name.isEmpty() ? server.getAuthorizationID() : server.getNegotiatedProperty(name);
            }
        };
    }
}

/** One connection, from the login to its end. */
final class Case implements CallbackHandler {
    private static final int BEGIN = '@';
    private static final int MORE = '+';
    private static final int SUCCESS = '.';
    private static final int REFUSED = '-';

    private final Map<String, String> options;
    private final OutputStream report;
    private final Map<String, Object> results = new LinkedHashMap<>();
    private Mechanism mechanism;
    private DataInputStream input;
    private OutputStream output;
    private final ByteArrayOutputStream held = new ByteArrayOutputStream();
    private String sends;
    private int sent;
    private int received;
    private int dropped;

    Case(Map<String, String> options, OutputStream report) {
        this.options = options;
        this.report = report;
        this.sends = options.getOrDefault("sends", "");
    }

    Map<String, Object> run() {
        try (Socket socket = connect()) {
            socket.setSoTimeout(Peer.PATIENCE);
            socket.setTcpNoDelay(true);
            input = new DataInputStream(socket.getInputStream());
            output = socket.getOutputStream();
            login();
            talk();
        } catch (Exception error) {
            results.put("error", describe(error));
        }
        results.put("received", received);
        results.put("dropped", dropped);
        return results;
    }

    private static String describe(Throwable error) {
        return error + (error.getCause() == null ? "" : " < " + describe(error.getCause()));
    }

    private Socket connect() throws IOException {
        if (options.containsKey("port")) {
            int port = Integer.parseInt(options.get("port"));
            return new Socket(InetAddress.getLoopbackAddress(), port);
        }
        try (ServerSocket listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            listener.setSoTimeout(Peer.PATIENCE);
            report.write(Peer.encode(Map.of("port", listener.getLocalPort())));
            return listener.accept();
        }
    }

    // the login

    private void login() throws Exception {
        Map<String, String> properties = new TreeMap<>(options);
        properties.keySet().removeIf(name -> !name.contains("."));
        String host = options.get("host");
        if (options.containsKey("port")) {
            String[] names = {"DIGEST-MD5"};
            String authzid = options.get("authzid");
            SaslClient client =
                    Sasl.createSaslClient(names, authzid, "test", host, properties, this);
            mechanism = Mechanism.of(client);
            logIn();
        } else {
            SaslServer server = Sasl.createSaslServer("DIGEST-MD5", "test", host, properties, this);
            mechanism = Mechanism.of(server);
            letLogIn();
        }
    }

    private void logIn() throws IOException {
        say(BEGIN, "DIGEST-MD5".getBytes(StandardCharsets.US_ASCII));
        byte[] message = next();
        while (message[0] == MORE) {
            say(MORE, mechanism.step(body(message)));
            if (mechanism.isComplete()) {
                describe();
                sendPayloads();
            }
            message = next();
        }
        if (message[0] != SUCCESS) {
            throw new SaslException("refused: " + new String(body(message), StandardCharsets.UTF_8));
        }
        if (message.length > 1) {
            mechanism.step(body(message));
        }
        if (!mechanism.isComplete()) {
            throw new SaslException("success before completion");
        }
        describe();
    }

    private void letLogIn() throws IOException {
        byte[] proof;
        try {
            expect(BEGIN);
            say(MORE, mechanism.step(new byte[0]));
            proof = mechanism.step(expect(MORE));
        } catch (SaslException error) {
            say(REFUSED, describe(error).getBytes(StandardCharsets.UTF_8));
            throw error;
        }
        if (options.containsKey("forge")) {
            proof[proof.length - 1] ^= 1;
        }
        if (options.containsKey("apart")) {
            say(MORE, proof);
            expect(MORE);
            proof = null;
        }
        describe();
        say(SUCCESS, proof);
    }

    private void say(int kind, byte[] body) throws IOException {
        int length = body == null ? 0 : body.length;
        ByteBuffer message = ByteBuffer.allocate(5 + length).putInt(1 + length).put((byte) kind);
        held.write(body == null ? message.array() : message.put(body).array());
        if (!options.containsKey("eager") || !mechanism.isComplete()) {
            release();
        }
    }

    private void release() throws IOException {
        output.write(held.toByteArray());
        held.reset();
    }

    private byte[] next() throws IOException {
        byte[] message = new byte[input.readInt()];
        input.readFully(message);
        return message;
    }

    private byte[] expect(int kind) throws IOException {
        byte[] message = next();
        if (message[0] != kind) {
            throw new SaslException("got " + (char) message[0] + " in place of " + (char) kind);
        }
        return body(message);
    }

    private static byte[] body(byte[] message) {
        return Arrays.copyOfRange(message, 1, message.length);
    }

    @Override
    public void handle(Callback[] callbacks) throws UnsupportedCallbackException {
        String username = options.get("username");
        boolean known = true;
        for (Callback callback : callbacks) {
            if (callback instanceof NameCallback name) {
                known = options.containsKey("port") || username.equals(name.getDefaultName());
                name.setName(username);
            } else if (callback instanceof PasswordCallback password) {
                password.setPassword(known ? options.get("password").toCharArray() : null);
            } else if (callback instanceof RealmChoiceCallback realm) {
                realm.setSelectedIndex(realm.getDefaultChoice());
            } else if (callback instanceof RealmCallback realm) {
                realm.setText(realm.getDefaultText());
            } else if (callback instanceof AuthorizeCallback authorize) {
                authorize.setAuthorized(true);
            } else {
                throw new UnsupportedCallbackException(callback);
            }
        }
    }

    private void describe() {
        results.put("qop", mechanism.property(Sasl.QOP));
        results.put("strength", mechanism.property(Sasl.STRENGTH));
        results.put("maxbuffer", mechanism.property(Sasl.MAX_BUFFER));
        results.put("maximum", mechanism.property(Sasl.RAW_SEND_SIZE));
        if (!options.containsKey("port")) {
            results.put("authzid", mechanism.property(""));
        }
    }

    // what follows it

    private void talk() throws Exception {
        MessageDigest digest = MessageDigest.getInstance("SHA-256");
        sendPayloads();
        try {
            while (true) {
                byte[] data = sealed() ? unwrap() : readSome();
                digest.update(data);
                received += data.length;
                if (!options.containsKey("silent")) {
                    output.write(sealed() ? frames(data) : data);
                }
            }
        } catch (EOFException end) {
            results.put("sha256", HexFormat.of().formatHex(digest.digest()));
        }
    }

    private byte[] readSome() throws IOException {
        byte[] buffer = new byte[8192];
        int length = input.read(buffer);
        if (length < 0) {
            throw new EOFException();
        }
        return Arrays.copyOf(buffer, length);
    }

    private byte[] unwrap() throws IOException {
        byte[] data = mechanism.unwrap(next());
        if (data.length == 0) {
            dropped++;
        }
        return data;
    }

    /** Seals data in as many frames as it needs; `wrap` gives no length, so it is added here. */
    private byte[] frames(byte[] data) throws IOException {
        ByteArrayOutputStream frames = new ByteArrayOutputStream();
        int step = Integer.parseInt((String) mechanism.property(Sasl.RAW_SEND_SIZE));
        for (int offset = 0; offset < data.length; offset += step) {
            byte[] token = mechanism.wrap(data, offset, Math.min(step, data.length - offset));
            if (options.getOrDefault("tamper", "").equals("" + sent++)) {
                token[0] ^= 1;
            }
            frames.write(ByteBuffer.allocate(4).putInt(token.length).array());
            frames.write(token);
        }
        return frames.toByteArray();
    }

    private boolean sealed() {
        return !"auth".equals(results.get("qop"));
    }

    private void sendPayloads() throws IOException {
        if (sends == null) {
            return;
        }
        int pieces = Integer.parseInt(options.getOrDefault("pieces", "0"));
        int position = 0;
        for (String size : sends.split(",")) {
            if (!size.isEmpty()) {
                byte[] payload = payload(position, Integer.parseInt(size));
                position += payload.length;
                held.write(sealed() ? frames(payload) : payload);
            }
            if (pieces == 0) { // a segment for each payload; else all at once, or in pieces
                release();
            }
        }
        sends = null;
        byte[] all = held.toByteArray();
        held.reset();
        for (int offset = 0; offset < all.length; offset += pieces) {
            output.write(all, offset, Math.min(pieces, all.length - offset));
        }
    }

    /** A part of an endless text, the same as in Python. */
    private static byte[] payload(int position, int size) {
        StringBuilder text = new StringBuilder();
        for (int line = position / 16; line * 16 < position + size; line++) {
            text.append(String.format("needle-%08d;", line));
        }
        byte[] all = text.toString().getBytes(StandardCharsets.US_ASCII);
        return Arrays.copyOfRange(all, position % 16, position % 16 + size);
    }
}
